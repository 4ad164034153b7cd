//! One run of ginkgo beside the control plane: which tests in, what became of each out. Everything that it says is in a
//! log; what ends is told as it ends.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mesh_lab::Cluster;

use super::{
    progress::Progress,
    report::{self, Spec},
};
use crate::run;

/// What runs, and where its output goes.
pub(super) struct Suite<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) programs: &'a Path,
    pub(super) output: PathBuf,
    /// How many tests at a time; what is labelled Serial runs alone all the same.
    pub(super) processes: usize,
}

impl Suite<'_> {
    /// Runs the tests whose names match; a test that fails is no error.
    pub(super) fn run(&self, name: &str, focus: &str, skip: &str) -> Result<Vec<Spec>> {
        let output = self.output.join(name);
        fs::create_dir_all(&output)?;
        let log = output.join("log");
        let mut log =
            File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
        let arguments = self.arguments(&output, focus, skip);
        let mut command = self
            .cluster
            .master()
            .command(&self.programs.join("ginkgo"), &arguments)?;
        command.env("KUBECONFIG", self.cluster.kubeconfig());
        let mut progress = Progress::default();
        let mut written = Ok(());
        run::watch(&mut command, |line| {
            if written.is_ok() {
                written = writeln!(log, "{line}");
            }
            if let Some(said) = progress.line(line) {
                run::say(&said);
            }
        })?;
        written.context("cannot write the log")?;
        let report = output.join("report.json");
        let text = fs::read_to_string(&report).with_context(|| {
            format!(
                "ginkgo made no report; see {}",
                output.join("log").display()
            )
        })?;
        report::specs(&text)
    }

    fn arguments(&self, output: &Path, focus: &str, skip: &str) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let mut arguments = vec![
            "-v".to_owned(),
            "--no-color".to_owned(),
            format!("--procs={}", self.processes),
            "--timeout=3h".to_owned(),
            format!("--output-dir={}", output.display()),
            "--json-report=report.json".to_owned(),
            format!("--focus={focus}"),
        ];
        if !skip.is_empty() {
            arguments.push(format!("--skip={skip}"));
        }
        arguments.extend([
            text(self.programs.join("e2e.test")),
            "--".to_owned(),
            "--provider=skeleton".to_owned(),
            "--disable-log-dump".to_owned(),
            format!("--num-nodes={}", self.cluster.nodes().len()),
            format!("--kubeconfig={}", self.cluster.kubeconfig().display()),
            format!("--kubectl-path={}", text(self.programs.join("kubectl"))),
        ]);
        arguments
    }
}
