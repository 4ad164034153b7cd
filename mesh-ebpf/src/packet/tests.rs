//! The packet path over memory: whole ways of flows through the hooks, and laws as properties over random ways.

mod errors;
mod foreign;
mod fragments;
mod laws;
mod policies;
mod refusals;
mod reuse;
mod scenarios;
mod source;
mod world;
