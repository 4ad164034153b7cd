//! Every chore of the project is a verb: `cargo xtask VERB`. Each verb is a file; results go to stdout, progress to
//! stderr, and the exit status is 1 when a verb failed.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod cluster;
mod conformance;
mod control_plane;
mod demo;
mod go;
mod image;
mod kernels;
mod lint;
mod manifests;
mod place;
mod run;
mod schema;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of mesh-agent")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing to build, to test or for CI
    Setup(setup::Arguments),
    /// Build the release binary of mesh-agent, eBPF programs included
    Build,
    /// Show the main job at work: two nodes, an agent on each, a Service spread over both
    Demo(demo::Arguments),
    /// Measure, side by side with nothing in the way
    Bench(bench::Arguments),
    /// Write the container image, as an archive that container engines load
    Image(image::Arguments),
    /// Run the tests, all lanes or those named
    Test(test::Arguments),
    /// Run Kubernetes' own end-to-end tests with the agent in kube-proxy's place
    Conformance(conformance::Arguments),
    /// Boot old kernels and prove that every program works there
    Kernels(kernels::Arguments),
    /// Write manifests/install.yaml and the version into the manifests, or check them
    Manifests(manifests::Arguments),
    /// Check format, lints, documentation, licences and the schema
    Lint,
    /// Write mesh-common/schema.lock, or check it
    Schema(schema::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().verb {
        Verb::Setup(arguments) => setup::setup(&arguments),
        Verb::Build => build::build(),
        Verb::Demo(arguments) => demo::demo(&arguments),
        Verb::Bench(arguments) => bench::bench(&arguments),
        Verb::Image(arguments) => image::image(&arguments),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Conformance(arguments) => conformance::conformance(&arguments),
        Verb::Kernels(arguments) => kernels::kernels(&arguments),
        Verb::Manifests(arguments) => manifests::manifests(&arguments),
        Verb::Lint => lint::lint(),
        Verb::Schema(arguments) => schema::schema(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
