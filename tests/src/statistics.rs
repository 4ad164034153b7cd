//! Is a choice uniform? A bound that a fair choice breaks less than once in a billion runs.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

/// -ln of the chance of a false alarm: e^-23 is 1e-10.
const CONFIDENCE: f64 = 23.0;

/// Fails unless exactly these names answered, and as evenly as a uniform random choice would make them.
pub fn assert_uniform(answers: &BTreeMap<String, u64>, names: &[String]) -> Result<()> {
    for name in answers.keys() {
        ensure!(
            names.contains(name),
            "{name} answered, of {names:?}: {answers:?}"
        );
    }
    let total: u64 = answers.values().sum();
    let expected = total as f64 / names.len() as f64;
    ensure!(
        expected >= 20.0,
        "{total} answers are too few for {} names",
        names.len()
    );
    let statistic: f64 = names
        .iter()
        .map(|name| {
            let count = answers.get(name).copied().unwrap_or_default() as f64;
            (count - expected).powi(2) / expected
        })
        .sum();
    let limit = limit(names.len());
    ensure!(
        statistic <= limit,
        "not uniform: chi-square {statistic:.1} over {limit:.1}: {answers:?}"
    );
    Ok(())
}

/// Laurent and Massart (2000), lemma 1: a chi-square variable with d degrees of freedom exceeds d + 2 sqrt(d x) + 2 x
/// with a chance of at most e^-x.
fn limit(names: usize) -> f64 {
    let degrees = names.saturating_sub(1) as f64;
    degrees + 2.0 * (degrees * CONFIDENCE).sqrt() + 2.0 * CONFIDENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(counts: &[u64]) -> (BTreeMap<String, u64>, Vec<String>) {
        let names: Vec<String> = (0..counts.len())
            .map(|index| format!("web-{index}"))
            .collect();
        (
            names.iter().cloned().zip(counts.iter().copied()).collect(),
            names,
        )
    }

    #[test]
    fn even_counts_pass() {
        let (answers, names) = answers(&[340, 310, 350]);
        assert_uniform(&answers, &names).unwrap();
    }

    #[test]
    fn a_missing_or_favoured_backend_fails() {
        for counts in [[500, 500, 0], [600, 200, 200]] {
            let (answers, names) = answers(&counts);
            assert_uniform(&answers, &names).unwrap_err();
        }
    }

    #[test]
    fn a_stranger_fails() {
        let (mut answers, names) = answers(&[340, 310, 350]);
        answers.insert("other".to_owned(), 1);
        assert_uniform(&answers, &names).unwrap_err();
    }
}
