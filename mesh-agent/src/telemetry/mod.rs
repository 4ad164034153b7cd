//! What the agent shows of itself: views for the commands, metrics for scrapers, health for probes.

mod health;
mod log;
mod metrics;
mod process;
mod prometheus;
mod view;

pub use health::Health;
pub use log::{LevelError, LogLevel};
pub use metrics::{MapFigures, MapOperations, Metrics, Scrape, SocketCounts};
pub use prometheus::to_prometheus_text;
pub use view::{
    API_VERSION, BackendView, CheckList, CheckView, Document, FrontendView, MapView, PortView,
    ProblemView, ProgramView, ServiceList, ServiceView, StatusView, TraceView, VersionView,
};
