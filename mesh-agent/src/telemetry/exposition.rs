//! The Prometheus text format 0.0.4 from the OpenMetrics text: one registry, two encodings. Pure: text in, text out.
//!
//! They differ in the name a counter's TYPE and HELP carry, in types the old format lacks, and in lines it does not
//! know: UNIT, EOF, created times and exemplars.

/// The media type of the old format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether a client that sends this Accept header wants OpenMetrics: it names it, and does not rank plain text higher.
#[must_use]
pub fn wants_open_metrics(accept: Option<&str>) -> bool {
    let accept = accept.unwrap_or_default().to_ascii_lowercase();
    let (mut open, mut plain) = (0.0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let weight = parts
            .find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok())
            .unwrap_or(1.0);
        match media {
            "application/openmetrics-text" => open = weight,
            "text/plain" => plain = weight,
            _ => {}
        }
    }
    open > 0.0 && open >= plain
}

/// What the comment lines said of the family whose samples follow.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    announced: bool,
}

/// The same metrics in the format 0.0.4.
#[must_use]
pub fn to_text(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut family = Family::default();
    for line in open_metrics.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => family.learn(comment),
            None => family.sample(line, &mut text),
        }
    }
    text
}

impl Family {
    fn learn(&mut self, comment: &str) {
        let mut words = comment.splitn(3, ' ');
        let (keyword, name) = (words.next(), words.next().unwrap_or_default());
        let rest = words.next().unwrap_or_default();
        if name != self.name {
            *self = Self {
                name: name.to_owned(),
                ..Self::default()
            };
        }
        match keyword {
            Some("TYPE") => rest.clone_into(&mut self.kind),
            Some("HELP") => rest.clone_into(&mut self.help),
            _ => {}
        }
    }

    fn sample(&mut self, line: &str, text: &mut String) {
        let Some((series, value)) = split(line) else {
            return;
        };
        let name = series.split('{').next().unwrap_or_default();
        if name.strip_prefix(&self.name) == Some("_created") && self.has_created() {
            return;
        }
        if !self.announced {
            self.announce(text);
        }
        text.extend([series, " ", value, "\n"]);
    }

    fn announce(&mut self, text: &mut String) {
        self.announced = true;
        let (suffix, kind) = match self.kind.as_str() {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            "stateset" => ("", "gauge"),
            "gauge" => ("", "gauge"),
            "histogram" => ("", "histogram"),
            "summary" => ("", "summary"),
            _ => ("", "untyped"),
        };
        // The old format escapes no quotes in HELP.
        let help = self.help.replace("\\\"", "\"");
        let name = &self.name;
        text.push_str(&format!(
            "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"
        ));
    }

    fn has_created(&self) -> bool {
        matches!(self.kind.as_str(), "counter" | "histogram" | "summary")
    }
}

/// A sample's name with its labels, and its value without exemplar. None for lines that hold no sample.
fn split(line: &str) -> Option<(&str, &str)> {
    let end = match line.find('{') {
        Some(open) if !line[..open].contains(' ') => open + end_of_labels(&line[open..])?,
        _ => line.find(' ')?,
    };
    let value = line[end..].split(" # ").next()?.trim();
    (!value.is_empty()).then_some((&line[..end], value))
}

/// Where the label set that starts here ends: at the first brace outside of quotes.
fn end_of_labels(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_header_decides() {
        for (accept, open) in [
            (None, false),
            (Some(""), false),
            (Some("*/*"), false),
            (Some("text/plain"), false),
            (Some("application/openmetrics-text"), true),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1",
                ),
                true,
            ),
            (
                Some("text/plain;q=0.9, application/openmetrics-text;q=0.1"),
                false,
            ),
            (Some("Application/OpenMetrics-Text; q=0"), false),
        ] {
            assert_eq!(wants_open_metrics(accept), open, "{accept:?}");
        }
    }

    #[test]
    fn each_type_becomes_what_the_old_format_has() {
        for (open, text) in [
            (
                "# HELP a Says \\\"a\\\".\n# TYPE a counter\na_total{x=\"1\"} 2\na_created{x=\"1\"} 1.5\n# EOF\n",
                "# HELP a_total Says \"a\".\n# TYPE a_total counter\na_total{x=\"1\"} 2\n",
            ),
            (
                "# HELP b_seconds B.\n# TYPE b_seconds gauge\n# UNIT b_seconds seconds\nb_seconds 1.0\n# EOF\n",
                "# HELP b_seconds B.\n# TYPE b_seconds gauge\nb_seconds 1.0\n",
            ),
            (
                "# HELP c C.\n# TYPE c histogram\nc_sum 1.0\nc_count 1\nc_bucket{le=\"+Inf\"} 1 # {id=\"x\"} 1.0\n# EOF\n",
                "# HELP c C.\n# TYPE c histogram\nc_sum 1.0\nc_count 1\nc_bucket{le=\"+Inf\"} 1\n",
            ),
            (
                "# HELP d D.\n# TYPE d info\nd_info{v=\"}# \\\" {\"} 1\n# EOF\n",
                "# HELP d_info D.\n# TYPE d_info gauge\nd_info{v=\"}# \\\" {\"} 1\n",
            ),
            (
                "# HELP e E.\n# TYPE e unknown\ne 1\n# EOF\n",
                "# HELP e E.\n# TYPE e untyped\ne 1\n",
            ),
            // A family without samples is not announced.
            ("# HELP f F.\n# TYPE f counter\n# EOF\n", ""),
        ] {
            assert_eq!(to_text(open), text);
        }
    }
}
