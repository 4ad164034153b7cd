//! What the Kubernetes API promises of Services: objects and a question in, who may answer out.
//!
//! It is written from the API reference (Service, EndpointSlice), the concept pages on virtual IPs and traffic policies, and
//! KEP-1669 (terminating endpoints), KEP-2086 (internal policy), KEP-2433, KEP-4444 and KEP-3015 (hints and distribution), KEP-1860
//! (ipMode). It shares no code with what it judges, has no index and no memory, and looks at every object for each question.
#![forbid(unsafe_code)]

mod answer;
mod controller;
mod endpoints;
mod manifest;
mod objects;
mod question;
mod random;
mod worlds;

pub use answer::{Answer, Why};
pub use objects::{
    Conditions, Endpoint, Ingress, Kind, Node, Pod, PodPort, Port, Protocol, Range, Service, Slice,
    SlicePort, TargetPort, World,
};
pub use question::{Client, Question, Way};
pub use random::Random;
pub use worlds::{Ground, PodPlace};
