//! The command line of the traffic tool.

use std::io::Write;

use anyhow::Result;

use super::{
    Report,
    call::CallArgs,
    connect,
    enter::{self, EnterArgs},
    exchange::{self, ExchangeArgs},
    flood,
    hold::{self, HoldArgs},
    lose::{self, LoseArgs},
    serve::{self, ServeArgs},
    until,
};

/// Servers that say who they are, and clients that say what became of each connection, as one JSON at the end.
/// Clients without --count and --duration go on until SIGTERM or until their stdin is closed.
#[derive(Debug, clap::Parser)]
#[command(name = "traffic")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Run a command in a network namespace and a cgroup.
    In(EnterArgs),
    /// Answer over TCP and UDP; closes its output when it listens.
    Serve(ServeArgs),
    /// Do nothing until SIGTERM.
    Pause,
    /// Connect again and again and read who answers. Measures connect(); without a connection the exchange.
    Connect(CallArgs),
    /// Keep connections open and ask them now and then. Measures the exchange.
    Hold(HoldArgs),
    /// Keep connections open, say nothing, and wait to be told that they are lost. Measures when that was.
    Lose(LoseArgs),
    /// Requests and responses over one connection. Measures the exchange.
    Rr(ExchangeArgs),
    /// Connect, request, response, close. Measures all of it.
    Crr(ExchangeArgs),
    /// As many bytes as go through one connection.
    Stream(ExchangeArgs),
    /// Ask for connections from addresses that are nobody's. Answered are those that were sent.
    Flood(CallArgs),
}

/// Does what the arguments say and prints the report, if there is one.
pub fn run(args: &Args) -> Result<()> {
    let report = match &args.verb {
        Verb::In(args) => return enter::enter(args),
        Verb::Serve(args) => return serve::serve(args),
        Verb::Pause => return until::pause(),
        Verb::Connect(args) => connect::connect(args)?,
        Verb::Hold(args) => hold::hold(args)?,
        Verb::Lose(args) => lose::lose(args)?,
        Verb::Rr(args) => exchange::rr(args)?,
        Verb::Crr(args) => exchange::crr(args)?,
        Verb::Stream(args) => exchange::stream(args)?,
        Verb::Flood(args) => flood::flood(args)?,
    };
    print(&report)
}

fn print(report: &Report) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    serde_json::to_writer(&mut stdout, report)?;
    stdout.write_all(b"\n")?;
    Ok(())
}
