//! Metrics in the Prometheus text format, as far as tests ask for them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

/// One series.
#[derive(Clone, Debug, PartialEq)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All series of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Series>);

impl Metrics {
    /// From the text.
    pub fn parse(text: &str) -> Result<Self> {
        text.lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| series(line).with_context(|| format!("no metric: {line:?}")))
            .collect::<Result<_>>()
            .map(Self)
    }

    /// The sum of all series of this name with these labels; others may be there too.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|series| series.value).sum()
    }

    /// Whether there is such a series.
    #[must_use]
    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// What a label of a metric can be.
    pub fn values_of(&self, name: &str, label: &str) -> impl Iterator<Item = &str> {
        self.matching(name, &[])
            .filter_map(move |series| series.labels.get(label).map(String::as_str))
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Series> {
        self.0.iter().filter(move |series| {
            series.name == name
                && labels
                    .iter()
                    .all(|(key, value)| series.labels.get(*key).is_some_and(|it| it == value))
        })
    }
}

fn series(line: &str) -> Option<Series> {
    let (head, value) = match line.split_once('}') {
        Some((head, value)) => (head, value),
        None if line.contains('{') => return None,
        None => line.split_once(' ')?,
    };
    let (name, labels) = head.split_once('{').unwrap_or((head, ""));
    Some(Series {
        name: name.to_owned(),
        labels: self::labels(labels)?,
        value: value.split_whitespace().next()?.parse().ok()?,
    })
}

/// `a="1",b="2"`; our label values have neither quotes nor braces in them.
fn labels(text: &str) -> Option<BTreeMap<String, String>> {
    text.split_terminator("\",")
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once("=\"")?;
            Some((key.to_owned(), value.trim_end_matches('"').to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_found_by_some_of_their_labels() {
        let text = "# TYPE a counter\n\
            a_total{map=\"sets\",op=\"store\",outcome=\"ok\"} 3\n\
            a_total{map=\"slots\",op=\"store\",outcome=\"ok\"} 4\n\
            b 1.5\n";
        let metrics = Metrics::parse(text).unwrap();
        assert!((metrics.sum("a_total", &[("op", "store")]) - 7.0).abs() < 1e-9);
        assert!((metrics.sum("a_total", &[("map", "sets")]) - 3.0).abs() < 1e-9);
        assert!((metrics.sum("b", &[]) - 1.5).abs() < 1e-9);
        assert!(!metrics.has("a_total", &[("map", "backends")]));
    }

    #[test]
    fn what_is_no_metric_is_an_error() {
        Metrics::parse("a{ 1").unwrap_err();
        Metrics::parse("a one").unwrap_err();
    }
}
