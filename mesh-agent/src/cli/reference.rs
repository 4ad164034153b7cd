//! docs/reference, made from what the binary itself knows: flags, metrics, codes, and a schema for each document.

use std::{collections::BTreeMap, fmt, sync::Arc};

use clap::CommandFactory;
use mesh_common::Counter;
use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::{args::Cli, codes::CODES};
use crate::telemetry::{
    dump::{
        AffinityRow, BackendRow, ClientRow, CounterRow, FrontendRow, ServiceRow, SetRow, SlotRow,
        SocketRow, SourceRangeRow,
    },
    metrics::{Metrics, Operations, Readings},
    view::{
        API_VERSION, CheckView, CleanupView, Document, EndpointView, ExplainView, Items,
        LogLevelView, MapView, ServiceView, StatusView, TraceView, VersionView,
    },
};

/// Every file of docs/reference that is made from code: its path below that directory, and its text.
pub fn reference() -> Result<Vec<(String, String)>, fmt::Error> {
    let mut files = vec![
        ("cli.md".to_owned(), commands()),
        ("codes.md".to_owned(), codes()),
        ("metrics.md".to_owned(), metrics()?),
    ];
    for (kind, schema) in schemas() {
        files.push((format!("json-schemas/{kind}.json"), format!("{schema:#}\n")));
    }
    Ok(files)
}

fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut text = "# Commands\n\nMade from the binary's own help. Data goes to stdout, diagnostics to stderr. Exit \
        status: 0 fine, 1 a check failed or the agent is unhealthy, 2 wrong usage.\n"
        .to_owned();
    command(&mut root, &mut text);
    text
}

fn command(command: &mut clap::Command, text: &mut String) {
    let name = command.get_bin_name().unwrap_or("mesh-agent").to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        help.join("\n").trim_end()
    ));
    for below in command.get_subcommands_mut() {
        if below.get_name() != "help" {
            self::command(below, text);
        }
    }
}

fn codes() -> String {
    let mut text = "# Codes\n\nA code is never given to anything else.\n\n| code | says | what to do |\n|---|---|---|\n"
        .to_owned();
    let probes = crate::datapath::codes::CODES.iter();
    let probes = probes.map(|code| {
        (
            code.code,
            format!("`check`, {}: {}", code.name, code.meaning),
            code.fix,
        )
    });
    let others = CODES
        .iter()
        .map(|code| (code.code, code.meaning.to_owned(), code.fix));
    for (code, meaning, fix) in probes.chain(others) {
        text.push_str(&format!("| {code} | {meaning} | {fix} |\n"));
    }
    text
}

/// One of everything, so that each metric shows its labels.
struct OneOfEach;

impl Readings for OneOfEach {
    fn maps(&self) -> Vec<MapView> {
        vec![MapView {
            entries: Some(0),
            ..MapView::default()
        }]
    }

    fn operations(&self) -> Vec<Operations> {
        vec![Operations {
            map: "",
            op: "",
            outcome: "",
            count: 0,
        }]
    }

    fn stale(&self) -> Vec<(&'static str, u64)> {
        vec![("Service", 0)]
    }

    fn counters(&self) -> Vec<(Counter, u64)> {
        Vec::new()
    }
}

fn metrics() -> Result<String, fmt::Error> {
    let exposition = Metrics::new(Arc::new(OneOfEach)).text()?;
    let mut text = "# Metrics\n\nServed at `/metrics`, in OpenMetrics when asked for, else in the Prometheus text \
        format 0.0.4.\n\n| name | type | labels | says |\n|---|---|---|---|\n"
        .to_owned();
    let (mut help, mut kind) = ("", None);
    for line in exposition.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.split_once(' ');
        } else if let (Some((name, kind)), Some((_, help))) = (kind.take(), help.split_once(' ')) {
            let labels = labels(line).join(", ");
            text.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
        }
    }
    Ok(text)
}

/// Names of a sample's labels; the values are ours and hold neither commas nor quotes.
fn labels(sample: &str) -> Vec<String> {
    let Some((_, rest)) = sample.split_once('{') else {
        return Vec::new();
    };
    let set = rest.split('}').next().unwrap_or_default();
    let names = set.split(',').filter_map(|pair| pair.split('=').next());
    names
        .filter(|name| *name != "le")
        .map(|name| format!("`{name}`"))
        .collect()
}

fn schemas() -> BTreeMap<&'static str, Value> {
    BTreeMap::from([
        schema::<Items<AffinityRow>>("AffinityList"),
        schema::<Items<ClientRow>>("ClientList"),
        schema::<Items<SourceRangeRow>>("SourceRangeList"),
        schema::<Items<BackendRow>>("BackendList"),
        schema::<Items<CheckView>>("CheckList"),
        schema::<CleanupView>("Cleanup"),
        schema::<Items<CounterRow>>("CounterList"),
        schema::<Items<EndpointView>>("EndpointList"),
        schema::<Items<FrontendRow>>("FrontendList"),
        schema::<LogLevelView>("LogLevel"),
        schema::<ServiceView>("Service"),
        schema::<ExplainView>("ServiceExplanation"),
        schema::<Items<ServiceView>>("ServiceList"),
        schema::<Items<ServiceRow>>("ServicePortList"),
        schema::<Items<SetRow>>("SetList"),
        schema::<Items<SlotRow>>("SlotList"),
        schema::<Items<SocketRow>>("SocketList"),
        schema::<StatusView>("Status"),
        schema::<TraceView>("Trace"),
        schema::<VersionView>("Version"),
    ])
}

fn schema<T: JsonSchema>(kind: &'static str) -> (&'static str, Value) {
    let mut schema = schema_for!(Document<T>);
    schema.insert("title".to_owned(), json!(kind));
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, word) in [("apiVersion", API_VERSION), ("kind", kind)] {
            properties.insert(field.to_owned(), json!({ "const": word }));
        }
    }
    let mut schema = schema.to_value();
    // A feature of serde_json that any dependency may turn on keeps the order of insertion.
    schema.sort_all_objects();
    (kind, schema)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_committed_reference_is_up_to_date() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
        let bless = std::env::var_os("MESH_AGENT_BLESS").is_some();
        for (path, text) in reference().unwrap() {
            let path = directory.join(path);
            if bless {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &text).unwrap();
            }
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == text,
                "{} is out of date: MESH_AGENT_BLESS=1 cargo test -p mesh-agent --lib reference",
                path.display()
            );
        }
    }

    #[test]
    fn schemas_say_what_every_document_has() {
        for (kind, schema) in schemas() {
            assert_eq!(schema["properties"]["kind"]["const"], kind);
            assert_eq!(schema["properties"]["apiVersion"]["const"], API_VERSION);
            let required = schema["required"].to_string();
            assert!(
                required.contains("apiVersion") && required.contains("kind"),
                "{kind}: {schema:#}"
            );
        }
    }
}
