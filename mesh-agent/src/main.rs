//! The binary: the commands over this host.

use std::process::ExitCode;

use mesh_agent::{
    cli::{CheckTarget, Fault, Host},
    config::{Directories, RunConfig},
    telemetry::{
        dump::Live,
        log::LogHandle,
        view::{CheckLevel, CheckView, RemovedView},
    },
};

fn main() -> ExitCode {
    mesh_agent::cli::main(&WithoutDatapath)
}

/// A host whose kernel cannot be programmed: every command that needs it says so.
struct WithoutDatapath;

const WHY: &str = "this binary was built without a datapath";
const FIX: &str = "use a binary that has one";

fn fault() -> Fault {
    Fault {
        code: String::new(),
        what: WHY.to_owned(),
        fix: FIX.to_owned(),
    }
}

impl Host for WithoutDatapath {
    fn run(&self, _: RunConfig, _: LogHandle) -> Result<(), Fault> {
        Err(fault())
    }

    fn check(&self, _: &CheckTarget<'_>) -> Vec<CheckView> {
        vec![CheckView {
            code: String::new(),
            level: CheckLevel::Error,
            object: "datapath".to_owned(),
            what: WHY.to_owned(),
            fix: FIX.to_owned(),
        }]
    }

    fn live(&self, _: &Directories) -> Result<Live, Fault> {
        Err(fault())
    }

    fn cleanup(&self, _: &Directories, _: bool) -> Result<Vec<RemovedView>, Fault> {
        Err(fault())
    }
}
