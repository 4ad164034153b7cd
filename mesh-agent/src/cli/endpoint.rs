//! `endpoint list`: the local pods, as their interfaces show them.

use super::{
    CliError, Verdict,
    args::EndpointCommand,
    table::Table,
    terminal::{Paint, Terminal},
};
use crate::{
    admin::client::Client,
    telemetry::view::{Document, EndpointView, Items},
};

pub(super) fn run(
    client: &Client,
    command: &EndpointCommand,
    terminal: &mut Terminal<'_>,
) -> Result<Verdict, CliError> {
    match command {
        EndpointCommand::List(args) => {
            let endpoints: Document<Items<EndpointView>> = client.get("/v1/endpoints")?;
            terminal.show(args.output, &endpoints, list)?;
        }
    }
    Ok(Verdict::Fine)
}

pub(super) fn list(endpoints: &Items<EndpointView>, _: &Paint) -> String {
    let mut table = Table::new(&["INTERFACE", "INDEX", "NSID", "ADDRESSES", "FIRST-SEEN"]);
    for endpoint in &endpoints.items {
        let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
        let nsid = endpoint
            .nsid
            .map_or_else(|| "-".to_owned(), |nsid| nsid.to_string());
        table.row([
            endpoint.interface.clone(),
            endpoint.index.to_string(),
            nsid,
            addresses.join(","),
            endpoint.first_seen.to_string(),
        ]);
    }
    table.render()
}
