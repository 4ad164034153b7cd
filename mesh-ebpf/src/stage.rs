//! A hook is a walk over stages. Each stage looks at the socket and the state and says which comes next, or the
//! verdict. The kernel side calls them in line; `trace` stops after each.

use mesh_common::{Address, BackendId, FrontendValue, Port, Reason};

use crate::{Env, Socket, backend, record, service};

/// The hooks whose way is made of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// connect4, connect6
    Connect,
    /// sendmsg4, sendmsg6: a datagram with an address of its own
    Sendmsg,
}

/// The stages, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Is the destination a Service's?
    Service,
    /// Did this socket choose a backend for it before?
    Reuse,
    /// Which backend?
    Backend,
    /// Remember the Service behind the connection.
    RecordPeer,
    /// Remember the Service behind the replies.
    RecordReply,
    /// Put the backend's address into the call.
    Rewrite,
}

impl Stage {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Reuse => "reuse",
            Self::Backend => "backend",
            Self::RecordPeer => "record-peer",
            Self::RecordReply => "record-reply",
            Self::Rewrite => "rewrite",
        }
    }
}

/// What became of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a verdict that is not returned lets everything pass"]
pub enum Verdict {
    /// Not a Service's: goes on untouched.
    Pass,
    /// Goes to a backend.
    Forward,
    /// Goes nowhere; the caller is told at once.
    Refuse(Reason),
}

/// What a stage says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a step that is dropped ends the way in the middle"]
pub enum Step {
    /// Go on there.
    Next(Stage),
    /// That is all.
    Done(Verdict),
}

/// What the stages know so far: plain data, well below 256 bytes.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// Which hook walks.
    pub hook: Hook,
    /// What the program asked for.
    pub asked: (Address, Port),
    /// The frontend, from stage Service on.
    pub frontend: FrontendValue,
    /// The chosen backend, from stage Backend on (0 before).
    pub backend: BackendId,
    /// The chosen backend's generation.
    pub generation: u32,
    /// Where the call goes.
    pub target: (Address, Port),
}

const _: () = assert!(size_of::<State>() <= 256);

impl State {
    /// At the start of a hook.
    #[must_use]
    #[inline(always)]
    pub const fn new(hook: Hook) -> Self {
        let nowhere = (Address::UNSPECIFIED, Port::from_be(0));
        Self {
            hook,
            asked: nowhere,
            frontend: FrontendValue::refuse(),
            backend: 0,
            generation: 0,
            target: nowhere,
        }
    }
}

/// One stage.
#[inline(always)]
pub fn run<E: Env, S: Socket>(stage: Stage, env: &E, socket: &mut S, state: &mut State) -> Step {
    match stage {
        Stage::Service => service::stage(env, socket, state),
        Stage::Reuse => record::reuse(env, socket, state),
        Stage::Backend => backend::stage(env, socket, state),
        Stage::RecordPeer => record::connected(env, socket, state),
        Stage::RecordReply => record::reply(env, socket, state),
        Stage::Rewrite => {
            socket.set_peer(state.target.0, state.target.1);
            Step::Done(Verdict::Forward)
        }
    }
}

/// The body once for each stage that a way can have. A loop would hide from the compiler which stage comes when, and
/// each program would carry all stages.
macro_rules! for_each_stage {
    ($body:block) => {
        $body $body $body $body $body
    };
}

/// All stages of a hook.
#[inline(always)]
#[expect(
    unused_assignments,
    reason = "what the last stage says comes next is never looked at"
)]
pub(crate) fn walk<E: Env, S: Socket>(hook: Hook, env: &E, socket: &mut S) -> Verdict {
    let mut state = State::new(hook);
    let mut stage = Stage::Service;
    for_each_stage!({
        match run(stage, env, socket, &mut state) {
            Step::Next(next) => stage = next,
            Step::Done(verdict) => return verdict,
        }
    });
    Verdict::Refuse(Reason::Inconsistent)
}
