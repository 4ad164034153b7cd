//! Which of a service port's ready endpoints are near enough. In: what each is hinted for, as seen from this node. Out:
//! whether hints count, and why not if they do not.

/// What an endpoint's hints of a kind say to this node. Where slices disagree, the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hint {
    /// It has none.
    Missing,
    /// It is for others.
    Elsewhere,
    /// It is for this node, or its zone.
    Here,
}

impl Hint {
    /// Of names, one of which may be ours.
    pub(super) fn of<T: AsRef<str>>(names: &[T], own: Option<&str>) -> Self {
        let mut names = names.iter().peekable();
        if names.peek().is_none() {
            Self::Missing
        } else if names.any(|name| Some(name.as_ref()) == own) {
            Self::Here
        } else {
            Self::Elsewhere
        }
    }
}

/// How hints narrow the ready endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// Not at all.
    Everywhere,
    /// To those hinted for this node's zone.
    SameZone,
    /// To those hinted for this node.
    SameNode,
}

impl Topology {
    /// Whether a ready endpoint is near enough.
    #[must_use]
    pub fn admits(self, node: Hint, zone: Hint) -> bool {
        match self {
            Self::Everywhere => true,
            Self::SameZone => zone == Hint::Here,
            Self::SameNode => node == Hint::Here,
        }
    }
}

/// Why zone hints do not count although there are some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// An endpoint has none.
    Incomplete,
    /// None is for this node's zone.
    NotForZone,
    /// This node has no zone.
    NoZone,
}

impl Ignored {
    /// In words.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Incomplete => "hints do not count: a ready endpoint has none",
            Self::NotForZone => {
                "endpoints[].hints do not count: none is for this node or its zone, so all are used"
            }
            Self::NoZone => {
                "endpoints[].hints.forZones do not count: this node has no label topology.kubernetes.io/zone, so all \
                 are used"
            }
        }
    }
}

/// How hints narrow the ready endpoints, and what is in their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What they come to.
    pub topology: Topology,
    /// Hints that were ignored.
    pub ignored: Option<Ignored>,
}

impl Verdict {
    /// Of the (node, zone) hints of the ready endpoints. Hints count only if every one has some, and one is for us: else
    /// endpoints could be left without any clients, or clients without any endpoint. Nodes come before zones.
    pub(super) fn of(hints: impl Iterator<Item = (Hint, Hint)>, has_zone: bool) -> Self {
        let mut nodes = Seen::default();
        let mut zones = Seen::default();
        for (node, zone) in hints {
            nodes.add(node);
            zones.add(zone);
        }
        let (topology, ignored) = if nodes.all && nodes.here {
            (Topology::SameNode, None)
        } else if zones.all && zones.here {
            (Topology::SameZone, None)
        } else {
            let ignored = match (nodes.any || zones.any, nodes.all || zones.all) {
                (false, _) => None,
                (true, false) => Some(Ignored::Incomplete),
                (true, true) if zones.all && !has_zone => Some(Ignored::NoZone),
                (true, true) => Some(Ignored::NotForZone),
            };
            (Topology::Everywhere, ignored)
        };
        Self { topology, ignored }
    }
}

/// Hints of one kind.
struct Seen {
    /// Every endpoint has some.
    all: bool,
    /// One endpoint has some.
    any: bool,
    /// One is for us.
    here: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            all: true,
            any: false,
            here: false,
        }
    }
}

impl Seen {
    fn add(&mut self, hint: Hint) {
        self.all &= hint != Hint::Missing;
        self.any |= hint != Hint::Missing;
        self.here |= hint == Hint::Here;
    }
}
