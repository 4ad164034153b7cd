//! OpenMetrics text as Prometheus text 0.0.4, which plain curl and older scrapers expect. Pure.
//!
//! The two differ in few things: 0.0.4 names a counter's family with its `_total`, has no units, no `_created`, no
//! end mark, and no info and unknown types.

use std::collections::BTreeMap;

/// Rewrites a whole exposition.
#[must_use]
pub fn to_prometheus_text(open_metrics: &str) -> String {
    let types: BTreeMap<&str, &str> = open_metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if let Some(line) = rewrite(line, &types) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn rewrite(line: &str, types: &BTreeMap<&str, &str>) -> Option<String> {
    if line == "# EOF" || line.starts_with("# UNIT ") {
        return None;
    }
    if let Some((family, kind)) = line
        .strip_prefix("# TYPE ")
        .and_then(|rest| rest.split_once(' '))
    {
        let kind = match kind {
            "unknown" | "stateset" => "untyped",
            "info" => "gauge",
            "gaugehistogram" => "histogram",
            other => other,
        };
        return Some(format!("# TYPE {} {kind}", family_name(family, types)));
    }
    if let Some((family, help)) = line
        .strip_prefix("# HELP ")
        .and_then(|rest| rest.split_once(' '))
    {
        return Some(format!("# HELP {} {help}", family_name(family, types)));
    }
    let name = line.split(['{', ' ']).next().unwrap_or_default();
    let is_created = name
        .strip_suffix("_created")
        .is_some_and(|family| types.contains_key(family));
    (!is_created).then(|| without_exemplar(line).to_owned())
}

fn family_name(family: &str, types: &BTreeMap<&str, &str>) -> String {
    match types.get(family) {
        Some(&"counter") => format!("{family}_total"),
        Some(&"info") => format!("{family}_info"),
        _ => family.to_owned(),
    }
}

/// An exemplar follows ` # ` after the value.
fn without_exemplar(line: &str) -> &str {
    let value = line.rfind("} ").map_or(0, |at| at + 2);
    match line[value..].find(" # ") {
        Some(at) => &line[..value + at],
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_suffix_in_every_line() {
        let open_metrics = "# HELP drops Refusals.\n# TYPE drops counter\ndrops_total{reason=\"a # b\"} 3\n\
            drops_created 1\n# EOF\n";
        assert_eq!(
            to_prometheus_text(open_metrics),
            "# HELP drops_total Refusals.\n# TYPE drops_total counter\ndrops_total{reason=\"a # b\"} 3\n"
        );
    }

    #[test]
    fn gauges_histograms_and_infos() {
        let open_metrics = "# TYPE size_bytes gauge\n# UNIT size_bytes bytes\nsize_bytes 1\n# TYPE build info\n\
            build_info{version=\"1\"} 1\n# TYPE took histogram\ntook_sum 1\ntook_count 1\ntook_bucket{le=\"+Inf\"} 1\n# EOF\n";
        assert_eq!(
            to_prometheus_text(open_metrics),
            "# TYPE size_bytes gauge\nsize_bytes 1\n# TYPE build_info gauge\nbuild_info{version=\"1\"} 1\n\
            # TYPE took histogram\ntook_sum 1\ntook_count 1\ntook_bucket{le=\"+Inf\"} 1\n"
        );
    }
}
