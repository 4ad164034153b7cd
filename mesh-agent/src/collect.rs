//! Which flows are over: those that have been silent for longer than their state allows. Pure: entries in, keys to
//! delete out. The kernel never takes an entry out of `flows` by itself, so that no newcomer can push out what stands.

use mesh_common::{Direction, Entry, FlowKey, FlowValue, Seen, timeout};

/// What is asked about other entries while one is looked at.
pub trait FlowTable {
    /// The entry of a tuple.
    fn flow(&self, key: &FlowKey) -> Option<FlowValue>;
}

/// What to delete because of one entry of `flows`, the request last; nothing while its flow lasts. `now` is seconds of
/// the monotonic clock. Other entries are looked up only when this one has been silent for so long that it may be over.
#[must_use]
pub fn over(table: &dyn FlowTable, key: &FlowKey, value: &FlowValue, now: u32) -> Vec<FlowKey> {
    if !is_old(key, value, now) {
        return Vec::new();
    }
    match value.entry() {
        Some(Entry::Request) => request(table, key, value, now),
        Some(Entry::Reply) => reply(table, key, value, now),
        Some(Entry::Leaving) => orphan(table, key, value, leaving_reply),
        Some(Entry::Returning) => orphan(table, key, value, returning_reply),
        // Nobody writes such an entry, so nobody misses it.
        None => vec![*key],
    }
}

/// Whether the flow may be over by what this side has sent and how long it has been silent. What the other side has
/// sent may end it sooner: then it is that side's entry that says so.
fn is_old(key: &FlowKey, value: &FlowValue, now: u32) -> bool {
    let silent = now.saturating_sub(value.stamp());
    let seen = value.seen();
    // Where one side has closed, the other may have too.
    let other = if seen.has(Seen::FIN) { seen } else { Seen::ANY };
    let least = match value.entry() {
        Some(Entry::Request) => timeout(key.protocol(), seen, other),
        Some(Entry::Reply) => timeout(key.protocol(), other, seen),
        // Their stamps are not kept up: they go with their flow, and are looked at for lost ones alone.
        Some(Entry::Leaving | Entry::Returning) => 600,
        None => 0,
    };
    silent > least
}

fn request(table: &dyn FlowTable, key: &FlowKey, value: &FlowValue, now: u32) -> Vec<FlowKey> {
    let reply = table.flow(&key.reply(value.target()));
    let seen = reply.map_or(Seen::NOTHING, |reply| reply.seen());
    let stamp = reply.map_or(0, |reply| reply.stamp()).max(value.stamp());
    if now.saturating_sub(stamp) <= timeout(key.protocol(), value.seen(), seen) {
        return Vec::new();
    }
    tuples(table, key, value)
}

/// The backend has closed or reset: the flow may be over before the client's own entry says so.
fn reply(table: &dyn FlowTable, key: &FlowKey, value: &FlowValue, now: u32) -> Vec<FlowKey> {
    let of = key.request(value.target());
    match table.flow(&of) {
        Some(found)
            if found.entry() == Some(Entry::Request) && of.reply(found.target()) == *key =>
        {
            request(table, &of, &found, now)
        }
        Some(_) | None => vec![*key],
    }
}

/// An entry that goes with its flow, whose flow is not there.
fn orphan(
    table: &dyn FlowTable,
    key: &FlowKey,
    value: &FlowValue,
    reply: impl Fn(&FlowKey, &FlowValue) -> FlowKey,
) -> Vec<FlowKey> {
    match table.flow(&reply(key, value)) {
        Some(_) => Vec::new(),
        None => vec![*key],
    }
}

/// Every tuple of a flow that is there, the request last.
fn tuples(table: &dyn FlowTable, request: &FlowKey, value: &FlowValue) -> Vec<FlowKey> {
    let leaving = request.leaving(value.target());
    let mut keys = vec![leaving.reversed()];
    if let Some(found) = table.flow(&leaving) {
        let source = found.target();
        if source.1.get() != 0 {
            keys.push(leaving.returning(source));
        }
        keys.push(leaving);
    }
    keys.push(*request);
    keys
}

/// From backend to client, of what leaves from client to backend.
fn leaving_reply(leaving: &FlowKey, _: &FlowValue) -> FlowKey {
    leaving.reversed()
}

/// From backend to client, of what returns from backend to source.
fn returning_reply(returning: &FlowKey, value: &FlowValue) -> FlowKey {
    returning.to(Direction::Egress, value.target())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap, net::Ipv4Addr};

    use mesh_common::{Address, Port, Protocol};

    use super::*;

    #[derive(Default)]
    struct Table(RefCell<BTreeMap<FlowKey, FlowValue>>);

    impl FlowTable for Table {
        fn flow(&self, key: &FlowKey) -> Option<FlowValue> {
            self.0.borrow().get(key).copied()
        }
    }

    impl Table {
        /// Everything that is over goes; how much is left.
        fn collect(&self, now: u32) -> usize {
            let entries = self.0.borrow().clone();
            for (key, value) in &entries {
                for key in over(self, key, value, now) {
                    self.0.borrow_mut().remove(&key);
                }
            }
            self.0.borrow().len()
        }

        fn note(&self, key: &FlowKey, seen: u8, now: u32) {
            let mut table = self.0.borrow_mut();
            table.get_mut(key).unwrap().note(Seen(seen), now);
        }
    }

    fn end(host: u8, port: u16) -> (Address, Port) {
        (Ipv4Addr::new(10, 0, 0, host).into(), Port::new(port))
    }

    /// A whole flow with a source, seen last at second 1000; its request and reply.
    fn flow(protocol: Protocol) -> (Table, FlowKey, FlowKey) {
        let (client, frontend, backend, source) =
            (end(1, 40000), end(9, 80), end(2, 8080), end(4, 1024));
        let request = FlowKey::new(Direction::Ingress, protocol, client, frontend);
        let leaving = request.leaving(backend);
        let reply = leaving.reversed();
        let returning = leaving.returning(source);
        let mut with_source = FlowValue::leaving(false, 1000);
        with_source.set_source_address(source.0);
        with_source.set_source_port(source.1);
        let mut answered = FlowValue::reply(frontend, 1000);
        answered.note(Seen::ANY, 1000);
        let entries = [
            (request, FlowValue::request(backend, (1, 1), 1000)),
            (leaving, with_source),
            (returning, FlowValue::returning(client, 1000)),
            (reply, answered),
        ];
        (
            Table(RefCell::new(entries.into_iter().collect())),
            request,
            reply,
        )
    }

    #[test]
    fn a_flow_goes_whole_when_both_sides_are_silent() {
        let (table, request, reply) = flow(Protocol::Tcp);
        assert_eq!(table.collect(1000 + 86_400), 4);
        // One side is enough to keep it.
        table.note(&reply, 1, 2000);
        assert_eq!(table.collect(1001 + 86_400), 4);
        table.note(&request, 1, 3000);
        assert_eq!(table.collect(2001 + 86_400), 4);
        assert_eq!(table.collect(3001 + 86_400), 0);
    }

    #[test]
    fn what_the_backend_closed_or_reset_goes_sooner() {
        let (table, _, reply) = flow(Protocol::Tcp);
        table.note(&reply, 1 | 2, 1000);
        assert_eq!(table.collect(1000 + 3_600), 4);
        assert_eq!(table.collect(1001 + 3_600), 0);
        let (table, _, reply) = flow(Protocol::Tcp);
        table.note(&reply, 1 | 4, 1000);
        assert_eq!(table.collect(1010), 4);
        assert_eq!(table.collect(1011), 0);
    }

    #[test]
    fn both_closed_and_datagrams() {
        let (table, request, reply) = flow(Protocol::Tcp);
        table.note(&request, 3, 1000);
        table.note(&reply, 3, 1005);
        assert_eq!(table.collect(1005 + 120), 4);
        assert_eq!(table.collect(1006 + 120), 0);
        let (table, _, _) = flow(Protocol::Udp);
        assert_eq!(table.collect(1180), 4);
        assert_eq!(table.collect(1181), 0);
    }

    #[test]
    fn what_lost_its_flow_goes() {
        let (table, request, _) = flow(Protocol::Tcp);
        table.0.borrow_mut().remove(&request);
        assert_eq!(table.collect(1600), 3);
        // First the reply, then what goes with it.
        table.collect(1000 + 86_401);
        assert_eq!(table.collect(1000 + 86_401), 0);
    }
}
