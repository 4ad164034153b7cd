//! mesh-agent's user side: watch -> store -> desired -> plan -> apply, and the commands.

pub mod apply;
pub mod desired;
pub mod engine;
pub mod model;
pub mod plan;
mod schema;
pub mod store;
pub mod sweep;
pub mod trace;
