//! What the smoke program reported, beside what was committed: instructions that the verifier walked, and stack.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

use super::Outcome;

/// Kernels stop at a million; a program near this has no room for the kernel's next change of mind.
const LIMIT: u64 = 300_000;

/// What the verifier had to do for a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Figure {
    /// Instructions walked, over all paths.
    pub(crate) instructions: u64,
    /// Bytes of stack of each function, the hook first; which call which, the verifier does not say.
    pub(crate) stack: String,
}

/// One kernel's.
#[derive(Debug, Default)]
pub(crate) struct Report {
    series: String,
    programs: BTreeMap<String, Figure>,
    passed: u32,
    failures: Vec<String>,
    ended: bool,
}

impl Report {
    /// From the lines that the smoke program printed, amid whatever else a console shows.
    pub(crate) fn read(series: &str, lines: &[String]) -> Self {
        let mut report = Self {
            series: series.to_owned(),
            ..Self::default()
        };
        for line in lines
            .iter()
            .filter_map(|line| Some(line.split_once("smoke: ")?.1))
        {
            match line.split_once(' ') {
                Some(("program", rest)) => report.read_program(rest),
                Some(("pass", _)) => report.passed += 1,
                Some(("fail", what)) => report.failures.push(what.to_owned()),
                Some(_) => {}
                None => report.ended |= line == "end",
            }
        }
        report
    }

    /// From `NAME instructions N stack N`.
    fn read_program(&mut self, text: &str) {
        let words: Vec<_> = text.split_whitespace().collect();
        if let [name, "instructions", instructions, "stack", stack] = words[..]
            && let Ok(instructions) = instructions.parse()
        {
            let stack = stack.to_owned();
            self.programs.insert(
                name.to_owned(),
                Figure {
                    instructions,
                    stack,
                },
            );
        }
    }

    /// Adds what the smoke program itself judged.
    pub(crate) fn judge_smoke(&self, outcome: &mut Outcome) {
        outcome.passed += self.passed;
        let failures = self
            .failures
            .iter()
            .map(|failure| format!("Linux {}: {failure}", self.series));
        outcome.failures.extend(failures);
        if !self.ended {
            outcome.failures.push(format!(
                "Linux {}: the smoke program did not come to its end",
                self.series
            ));
        }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, figure) in &self.programs {
            writeln!(
                text,
                "Linux {:<5} {name:<16} {:>7} instructions verified {} bytes of stack",
                self.series, figure.instructions, figure.stack
            )
            .ok();
        }
        text
    }
}

/// The committed figures of all kernels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(BTreeMap<(String, String), Figure>);

impl Figures {
    /// From the file; none when there is no file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// To the file.
    pub(crate) fn store(&self, path: &Path) -> Result<()> {
        fs::write(path, self.render()).with_context(|| path.display().to_string())
    }

    /// Takes over what was measured on a kernel; programs that are no more go.
    pub(crate) fn replace(&mut self, report: &Report) {
        self.0.retain(|(series, _), _| *series != report.series);
        for (name, figure) in &report.programs {
            self.0
                .insert((report.series.clone(), name.clone()), figure.clone());
        }
    }

    /// Holds a kernel's figures against the limit and the committed ones.
    pub(crate) fn judge(&self, report: &Report, outcome: &mut Outcome) {
        let known = self.0.keys().any(|(series, _)| *series == report.series);
        for (name, figure) in &report.programs {
            let committed = self.0.get(&(report.series.clone(), name.clone()));
            match complaint(figure, committed, known) {
                Some(complaint) => {
                    outcome.failures.push(format!(
                        "Linux {}, program {name}: {complaint}",
                        report.series
                    ));
                }
                None => outcome.passed += 1,
            }
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let rows = lines
            .map(|line| parse_row(line).with_context(|| format!("no row of figures: `{line}`")));
        Ok(Self(rows.collect::<Result<_>>()?))
    }

    fn render(&self) -> String {
        let mut text = String::from(
            "# What the verifier walks and how much stack it grants, per kernel and program.\n\
             # Written by `cargo xtask kernels --bless`; 10 % more instructions than here is a failed test.\n\
             # kernel program instructions stack\n",
        );
        for ((series, name), figure) in &self.0 {
            writeln!(
                text,
                "{series} {name} {} {}",
                figure.instructions, figure.stack
            )
            .ok();
        }
        text
    }
}

fn parse_row(line: &str) -> Option<((String, String), Figure)> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [series, name, instructions, stack] = words[..] else {
        return None;
    };
    let figure = Figure {
        instructions: instructions.parse().ok()?,
        stack: stack.to_owned(),
    };
    Some(((series.to_owned(), name.to_owned()), figure))
}

/// What is wrong with a figure. A kernel of which nothing is committed, such as a developer's own, has the limit alone.
fn complaint(figure: &Figure, committed: Option<&Figure>, kernel_known: bool) -> Option<String> {
    let now = figure.instructions;
    if now > LIMIT {
        return Some(format!(
            "{now} instructions verified, more than {LIMIT}: split it into stages"
        ));
    }
    match committed {
        Some(committed) if now * 10 > committed.instructions * 11 => Some(format!(
            "{now} instructions verified, over 10 % more than the committed {}: \
             make it simpler, or commit to it with `cargo xtask kernels --bless`",
            committed.instructions
        )),
        None if kernel_known => {
            Some("no figure is committed: `cargo xtask kernels --bless` writes it".to_owned())
        }
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(instructions: u64) -> Figure {
        Figure {
            instructions,
            stack: "64".to_owned(),
        }
    }

    #[test]
    fn a_console_is_read_whatever_else_it_shows() {
        let lines = [
            "[    1.2] something smoke: program connect4 instructions 412 stack 120",
            "smoke: pass TCP over IPv4",
            "smoke: fail UDP over IPv6: timed out",
            "smoke: end",
        ];
        let report = Report::read("6.1", &lines.map(str::to_owned));
        assert_eq!(
            report.programs.get("connect4"),
            Some(&Figure {
                instructions: 412,
                stack: "120".to_owned()
            })
        );
        assert_eq!(
            (report.passed, report.failures.len(), report.ended),
            (1, 1, true)
        );
    }

    #[test]
    fn a_report_without_an_end_fails() {
        let mut outcome = Outcome::default();
        Report::read("6.1", &[]).judge_smoke(&mut outcome);
        assert_eq!(outcome.failures.len(), 1);
    }

    #[test]
    fn ten_percent_more_passes_and_a_bit_more_does_not() {
        assert_eq!(complaint(&figure(1100), Some(&figure(1000)), true), None);
        assert!(complaint(&figure(1101), Some(&figure(1000)), true).is_some());
    }

    #[test]
    fn the_limit_holds_even_when_it_was_committed_to() {
        assert!(complaint(&figure(300_001), Some(&figure(300_001)), true).is_some());
        assert!(complaint(&figure(300_001), None, false).is_some());
    }

    #[test]
    fn a_program_without_a_figure_fails_where_its_kernel_has_some() {
        assert!(complaint(&figure(10), None, true).is_some());
        assert_eq!(complaint(&figure(10), None, false), None);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let lines = ["smoke: program connect4 instructions 412 stack 120".to_owned()];
        let mut figures = Figures::default();
        figures.replace(&Report::read("6.1", &lines));
        assert_eq!(Figures::parse(&figures.render()).unwrap(), figures);
    }
}
