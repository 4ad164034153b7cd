//! The document a bench writes: what machine it was, tables, notes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

#[derive(Clone)]
pub(super) struct Document {
    name: String,
    date: String,
    text: String,
}

impl Document {
    pub(super) fn new(name: &str) -> Result<Self> {
        let date =
            crate::run::capture(std::process::Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let processors = std::thread::available_parallelism()?;
        let load = fs::read_to_string("/proc/loadavg")?;
        let date = date.trim().to_owned();
        let text = format!(
            "# Benchmark: {name}\n\n{date}, Linux {}, {}, {processors} processors, load before {}.\nWritten by \
             `cargo xtask bench {name} --save`. One client binary for all; medians over the rounds; a spread is the \
             largest by the smallest round.\n",
            kernel.trim(),
            processor(),
            load.split(' ').next().unwrap_or_default()
        );
        Ok(Self {
            name: name.to_owned(),
            date,
            text,
        })
    }

    /// The first row is the head.
    pub(super) fn table(&mut self, title: &str, rows: &[Vec<String>]) {
        self.text.push_str(&format!("\n## {title}\n\n"));
        for (number, row) in rows.iter().enumerate() {
            self.text.push_str(&format!("| {} |\n", row.join(" | ")));
            if number == 0 {
                self.text
                    .push_str(&format!("|{}\n", "---|".repeat(row.len())));
            }
        }
    }

    pub(super) fn note(&mut self, text: &str) {
        self.text.push_str(&format!("\n{text}\n"));
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn save(&self, directory: &Path) -> Result<PathBuf> {
        let path = directory.join(format!("{}-{}.md", self.name, self.date));
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, &self.text))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(
        || "unknown processor".to_owned(),
        |(_, model)| model.to_owned(),
    )
}

/// Nanoseconds as microseconds.
pub(super) fn micros(nanoseconds: u64) -> String {
    format!("{}.{:02}", nanoseconds / 1000, nanoseconds % 1000 / 10)
}

/// One figure by another.
pub(super) fn ratio(figure: u64, by: u64) -> String {
    if by == 0 {
        return "-".to_owned();
    }
    let thousandths = figure * 1000 / by;
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// Measures each in order and then each in the opposite order: both figures of each, in order.
pub(super) fn there_and_back<T, F>(
    all: &[T],
    measure: impl Fn(&T) -> Result<F>,
) -> Result<Vec<[F; 2]>> {
    let there = all.iter().map(&measure).collect::<Result<Vec<_>>>()?;
    let back = all.iter().rev().map(&measure).collect::<Result<Vec<_>>>()?;
    let pairs = there.into_iter().zip(back.into_iter().rev());
    Ok(pairs.map(|(there, back)| [there, back]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_plainly() {
        assert_eq!(micros(12_345), "12.34");
        assert_eq!(ratio(103, 100), "1.030");
        assert_eq!(ratio(1, 0), "-");
    }
}
