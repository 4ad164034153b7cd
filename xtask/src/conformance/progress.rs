//! ginkgo's output as it comes: lines in, one line for each test that has ended out. Pure.

/// What is known of the output so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How the last test ended, whose name comes with the next line.
    ended: Option<String>,
    /// How many have.
    count: usize,
}

impl Progress {
    /// A line; gives what there is to say, if anything.
    pub(super) fn line(&mut self, line: &str) -> Option<String> {
        if let Some(ended) = self.ended.take() {
            self.count += 1;
            return Some(format!("{:>4} {ended}  {line}", self.count));
        }
        self.ended = ended(line);
        None
    }
}

/// From lines such as `• [6.098 seconds]`, `• [FAILED] [1.5 seconds]` and `S [SKIPPED] [0.1 seconds]`.
fn ended(line: &str) -> Option<String> {
    let rest = line.strip_suffix(" seconds]")?;
    let (marks, seconds) = rest.rsplit_once('[')?;
    let seconds: f64 = seconds.parse().ok()?;
    let word = match marks.trim() {
        "•" => "passed",
        "S [SKIPPED]" => "skipped",
        marks if marks.starts_with('•') => "FAILED",
        // What is done before and after all tests.
        _ => return None,
    };
    Some(format!("{word:<7} {seconds:>6.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_one_line() {
        let mut progress = Progress::default();
        assert_eq!(progress.line("------------------------------"), None);
        assert_eq!(progress.line("• [6.098 seconds]"), None);
        let said = progress.line("[sig-network] Services should work");
        assert_eq!(
            said.unwrap(),
            "   1 passed     6.1 s  [sig-network] Services should work"
        );
        assert_eq!(
            progress.line("k8s.io/kubernetes/test/e2e/network/service.go:1"),
            None
        );
    }

    #[test]
    fn failures_and_skips_are_told_apart() {
        assert_eq!(
            ended("• [FAILED] [1.5 seconds]").unwrap(),
            "FAILED     1.5 s"
        );
        assert_eq!(
            ended("S [SKIPPED] [0.1 seconds]").unwrap(),
            "skipped    0.1 s"
        );
        assert_eq!(ended("[AfterSuite] PASSED [1.5 seconds]"), None);
        assert_eq!(ended("took [1.5 seconds] in all"), None);
    }
}
