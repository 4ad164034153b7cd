//! Two processors that open one tuple at the same moment end with one flow.
//!
//! Which backend a flow gets is a number of its tuple: as long as the set is the same, both choose the same, and nobody could
//! tell who has won. So the object is loaded twice over one table of flows, and the Service's set is another one in each load:
//! one processor has read the set before it changed, the other one after that, for every tuple, and neither's choice is ever
//! the other's.

use std::{
    collections::{BTreeMap, BTreeSet},
    hint, iter,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use mesh_common::{
    Address, Counter, Direction, Entry, FlowKey, FlowState, FlowTag, Port, Protocol, Reason,
};
use mesh_ebpf::{
    PacketHook,
    sim::wire::{self, Datagram, tcp},
};
use mesh_lab::packet::{PacketPrograms, PacketWorld, Ran};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use super::object;

/// Tuples of each kind.
const TUPLES: usize = 500;
/// So many that no line is ever short of room.
const FLOW_LINES: u32 = 8192;
/// After so many races without a loser that took the winner's backend there is none that does.
const ENOUGH: usize = 20;

type End = (Address, Port);

/// Whose tuples.
#[derive(Clone, Copy, Debug)]
struct Kind {
    v6: bool,
    protocol: Protocol,
    /// The client's port. Above the backend's the flow's entries lie together and are claimed at once, below they are claimed
    /// one by one.
    port: u16,
}

impl Kind {
    fn all() -> Vec<Self> {
        let mut kinds = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for v6 in [false, true] {
                let kind = |port| Self { v6, protocol, port };
                kinds.extend([40_000, 5000].map(kind));
            }
        }
        kinds
    }

    fn frontend(self) -> End {
        PacketWorld::cluster(self.v6, PacketWorld::PLAIN)
    }

    /// What this side chooses.
    fn backend(self, side: usize) -> End {
        PacketWorld::backend(self.v6, PacketWorld::PLAIN, side as u32)
    }

    fn frame(self, from: End, to: End, flags: u8) -> Vec<u8> {
        match self.protocol {
            Protocol::Tcp => Datagram::tcp(from, to, flags).frame(),
            Protocol::Udp => Datagram::udp(from, to).frame(),
        }
    }

    /// Clients of which no two have the same line.
    fn tuples(self) -> Vec<Tuple> {
        let tuples = (1..).map(|number| {
            let client = (PacketWorld::outside(self.v6, number), Port::new(self.port));
            Tuple { kind: self, client }
        });
        let mut lines = BTreeSet::new();
        let line =
            |tuple: &Tuple| FlowTag::of(&tuple.request(), PacketWorld::seed()).first(FLOW_LINES);
        tuples
            .filter(|tuple| lines.insert(line(tuple)))
            .take(TUPLES)
            .collect()
    }
}

/// What a client asks the Service by.
#[derive(Clone, Copy, Debug)]
struct Tuple {
    kind: Kind,
    client: End,
}

impl Tuple {
    fn request(&self) -> FlowKey {
        FlowKey::new(
            Direction::Ingress,
            self.kind.protocol,
            self.client,
            self.kind.frontend(),
        )
    }

    /// The first packet.
    fn first(&self) -> Vec<u8> {
        self.kind.frame(self.client, self.kind.frontend(), tcp::SYN)
    }

    /// The answer to it.
    fn answer(&self, backend: End) -> Vec<u8> {
        self.kind.frame(backend, self.client, tcp::SYN | tcp::ACK)
    }
}

/// The two loads, each with a set of its own.
fn sides(object: &[u8]) -> Result<[PacketPrograms; 2]> {
    let mut sides = PacketPrograms::load_two(object, PacketWorld::seed(), FLOW_LINES)?;
    for (place, side) in (0..).zip(&mut sides) {
        let mut world = PacketWorld::new(5);
        for v6 in [false, true] {
            world.choose_only(v6, PacketWorld::PLAIN, place);
        }
        side.fill(&world.sim)?;
    }
    Ok(sides)
}

/// Those that this process may run on.
fn processors() -> Result<Vec<usize>> {
    let mine = sched_getaffinity(Pid::from_raw(0))?;
    let all = 0..CpuSet::count();
    Ok(all.filter(|it| mine.is_set(*it).unwrap_or(false)).collect())
}

fn stay_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one processor")
}

/// What a side made of a tuple's first packet.
#[derive(Debug)]
struct Opened {
    ran: Ran,
    /// It found no flow, and so chose by itself.
    chose: bool,
}

fn open(side: &PacketPrograms, processor: usize, tuple: &Tuple) -> Result<Opened> {
    let ran = side.run(PacketHook::FromPod, &tuple.first())?;
    Ok(Opened {
        ran: ran.context("refused")?,
        chose: side.last_choice(processor)? == Some(tuple.request()),
    })
}

/// Lets nobody through before both are there.
#[derive(Default)]
struct Gate(AtomicUsize);

impl Gate {
    /// So long nobody asks for the processor: it may be another test's turn.
    const SPINS: usize = 100_000;

    /// The two of a turn go on at the same moment, but for some tens of nanoseconds that are others in each turn: so each of
    /// them meets the other everywhere on its way.
    fn pass(&self, turn: usize, side: usize) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0;
        while self.0.load(Ordering::SeqCst) < 2 * (turn + 1) {
            spins += 1;
            if spins % Self::SPINS == 0 {
                thread::yield_now();
            }
            hint::spin_loop();
        }
        let (late, pauses) = (turn / 8 % 2, turn % 8);
        if late == side {
            iter::repeat_n((), pauses).for_each(|()| hint::spin_loop());
        }
    }
}

/// Both sides' first packets of each tuple, at the same moment.
fn race(
    sides: &[PacketPrograms; 2],
    processors: [usize; 2],
    tuples: &[Tuple],
) -> Result<Vec<[Opened; 2]>> {
    let gate = Gate::default();
    let run = |side: usize| -> Result<Vec<Opened>> {
        let stays = stay_on(processors[side]);
        let turns = tuples.iter().enumerate().map(|(turn, tuple)| {
            gate.pass(turn, side);
            open(&sides[side], processors[side], tuple)
        });
        // All of them, whatever becomes of one: the other side waits at the gate.
        let opened: Vec<Result<Opened>> = turns.collect();
        stays?;
        opened.into_iter().collect()
    };
    let run = &run;
    let [first, second] = thread::scope(|scope| {
        let threads = [0, 1].map(|side| scope.spawn(move || run(side)));
        threads.map(|thread| thread.join().map_err(|_| anyhow!("a side panicked")))
    });
    let both = first??.into_iter().zip(second??);
    Ok(both.map(|(first, second)| [first, second]).collect())
}

/// The same one after the other, each side first in turn.
fn in_turn(
    sides: &[PacketPrograms; 2],
    processor: usize,
    tuples: &[Tuple],
) -> Result<Vec<[Opened; 2]>> {
    stay_on(processor)?;
    let mut opened = Vec::new();
    for (turn, tuple) in tuples.iter().enumerate() {
        let (first, second) = (turn % 2, (turn + 1) % 2);
        let mut both = [first, second].map(|side| open(&sides[side], processor, tuple));
        both.rotate_left(first);
        let [zeroth, other] = both;
        opened.push([zeroth?, other?]);
    }
    Ok(opened)
}

/// What became of a packet at `from_pod`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    To(End),
    Dropped,
}

fn sent(ran: &Ran, tuple: &Tuple) -> Result<Sent> {
    if ran.code == 2 {
        return Ok(Sent::Dropped);
    }
    ensure!(ran.code == -1, "from_pod returns {}", ran.code);
    wire::check(&ran.bytes).map_err(anyhow::Error::msg)?;
    let seen = wire::parse(&ran.bytes).context("no packet")?;
    // Nothing else of the packet may have changed.
    let expected = tuple.kind.frame(tuple.client, seen.destination, tcp::SYN);
    ensure!(ran.bytes == expected, "{:02x?}", ran.bytes);
    Ok(Sent::To(seen.destination))
}

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    tuples: usize,
    /// Tuples of which each side has won.
    won: [usize; 2],
    /// Tuples that both sides chose for, each another backend.
    raced: usize,
    /// Of those: both packets went to the winner's backend.
    followed: usize,
    /// Packets that were dropped.
    dropped: usize,
}

impl Tally {
    /// Judges what both sides made of a tuple whose flow leads there, if there is one.
    ///
    /// A side that finds the flow sends its packet to the flow's backend. One that does not find it chooses by itself, and
    /// where the tuple's cell is taken by then it has lost: it waits for what the winner writes and uses that. Who does not
    /// get the lock in so many tries, or waits in vain, drops the packet; so may the winner of the request's cell, with another
    /// entry, after which there is no flow. Nobody sends a packet to where the table does not lead.
    fn judge(&mut self, tuple: &Tuple, both: &[Opened; 2], holder: Option<End>) -> Result<()> {
        let choices = [0, 1].map(|side| tuple.kind.backend(side));
        let sent = [sent(&both[0].ran, tuple)?, sent(&both[1].ran, tuple)?];
        let raced = both[0].chose && both[1].chose;
        self.tuples += 1;
        self.raced += usize::from(raced);
        let followed = holder.is_some_and(|holder| sent == [Sent::To(holder); 2]);
        if !raced {
            ensure!(followed, "{holder:?}, but {both:?}");
        }
        self.followed += usize::from(raced && followed);
        for side in [0, 1] {
            let has_won = holder == Some(choices[side]);
            self.won[side] += usize::from(has_won);
            match sent[side] {
                Sent::To(end) if Some(end) == holder => {}
                _ if has_won => bail!("side {side} has won, but {both:?}"),
                Sent::To(end) => {
                    bail!("side {side} sends to {end:?}, the flow leads to {holder:?}")
                }
                Sent::Dropped => self.dropped += 1,
            }
        }
        let dropped = sent.contains(&Sent::Dropped);
        ensure!(holder.is_some() || dropped, "no flow, but {both:?}");
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.tuples += other.tuples;
        self.won = [self.won[0] + other.won[0], self.won[1] + other.won[1]];
        self.raced += other.raced;
        self.followed += other.followed;
        self.dropped += other.dropped;
    }
}

/// Where the flows lead, by their requests.
fn holders(side: &PacketPrograms) -> Result<BTreeMap<FlowKey, End>> {
    let flows = side.opening()?.into_iter();
    let requests = flows.filter(|(_, value)| value.entry() == Some(Entry::Request));
    Ok(requests.map(|(key, value)| (key, value.target())).collect())
}

/// The table has two entries of each flow and nothing else: no cell beside them is taken or claimed, and no lock is held.
fn table_has(side: &PacketPrograms, holders: &BTreeMap<FlowKey, End>) -> Result<()> {
    let expected: BTreeSet<FlowKey> = holders
        .iter()
        .flat_map(|(request, backend)| [*request, request.reply(*backend)])
        .collect();
    let mut found: BTreeSet<FlowKey> = side.opening()?.into_keys().collect();
    found.extend(side.flows()?.into_keys());
    let mut wrong: Vec<String> = found
        .symmetric_difference(&expected)
        .map(|key| format!("{key:?} has no entry, or no flow"))
        .collect();
    let tag = |key: &FlowKey| FlowTag::of(key, PacketWorld::seed()).tag;
    let mut keys: BTreeMap<u32, &FlowKey> = found.iter().map(|key| (tag(key), key)).collect();
    for (number, [state, tags @ ..]) in side.heads()?.into_iter().enumerate() {
        let with_one = FlowState(state.wrapping_add_signed(FlowState::LOCK));
        if !with_one.is_mine() {
            wrong.push(format!("the lock of line {number} is held: {state:#x}"));
        }
        for tag in tags.into_iter().filter(|tag| *tag != 0) {
            if keys.remove(&tag).is_none() {
                wrong.push(format!("line {number} has {tag:#x}, claimed or once more"));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} mistakes in the table: {:#?}",
        wrong.len(),
        wrong.get(..3).unwrap_or(&wrong)
    );
    Ok(())
}

/// Whoever has the next packet, and the backend's answers, finds the one flow.
fn goes_on(side: &PacketPrograms, tuple: &Tuple, holder: End) -> Result<()> {
    let ran = side.run(PacketHook::FromPod, &tuple.first())?;
    let next = sent(&ran.context("refused")?, tuple)?;
    assert_eq!(next, Sent::To(holder), "{tuple:?}");
    let ran = side.run(PacketHook::ToPod, &tuple.answer(holder))?;
    let ran = ran.context("refused")?;
    assert_eq!(ran.code, -1, "{tuple:?}");
    assert_eq!(ran.bytes, tuple.answer(tuple.kind.frontend()), "{tuple:?}");
    Ok(())
}

/// The sum of both sides'.
fn counted(sides: &[PacketPrograms; 2]) -> Result<BTreeMap<Counter, u64>> {
    let mut sum = BTreeMap::new();
    for side in sides {
        for (counter, count) in side.counters()? {
            *sum.entry(counter).or_default() += count;
        }
    }
    Ok(sum)
}

/// Empties the table of both.
fn forget_all([side, _]: &mut [PacketPrograms; 2]) -> Result<()> {
    side.fill_traffic(&PacketWorld::new(5).sim)
}

/// So many flows were opened and so many packets dropped for want of a cell, and nothing else was counted.
fn counts(
    before: &BTreeMap<Counter, u64>,
    after: &BTreeMap<Counter, u64>,
    flows: usize,
    dropped: usize,
) {
    let of = |counter| {
        let of = |counts: &BTreeMap<_, u64>| counts.get(&counter).copied().unwrap_or(0);
        of(after) - of(before)
    };
    let drops = [Reason::FlowsFull, Reason::TupleInUse].map(Counter::Dropped);
    assert_eq!(
        drops.map(of).iter().sum::<u64>(),
        dropped as u64,
        "{drops:?}"
    );
    for counter in Counter::ALL.into_iter().filter(|it| !drops.contains(it)) {
        let expected = if counter == Counter::FlowOpened {
            flows
        } else {
            0
        };
        assert_eq!(of(counter), expected as u64, "{counter:?}");
    }
}

/// Races for tuples that nobody has asked by, and looks at what is left.
fn round(sides: &[PacketPrograms; 2], processors: &[usize], tuples: &[Tuple]) -> Result<Tally> {
    let (others, before) = (holders(&sides[0])?, counted(sides)?);
    let opened = match *processors {
        [first, second, ..] => race(sides, [first, second], tuples)?,
        _ => in_turn(sides, *processors.first().context("no processor")?, tuples)?,
    };
    let (holders, after) = (holders(&sides[0])?, counted(sides)?);
    table_has(&sides[0], &holders)?;
    let mut tally = Tally::default();
    for (tuple, both) in tuples.iter().zip(&opened) {
        let holder = holders.get(&tuple.request()).copied();
        tally.judge(tuple, both, holder)?;
    }
    counts(&before, &after, holders.len() - others.len(), tally.dropped);
    for tuple in tuples {
        if let Some(holder) = holders.get(&tuple.request()) {
            goes_on(&sides[0], tuple, *holder)?;
            goes_on(&sides[1], tuple, *holder)?;
        }
    }
    table_has(&sides[1], &holders)?;
    Ok(tally)
}

#[test]
fn two_processors_that_open_one_tuple_end_with_one_flow() -> Result<()> {
    let Some(object) = object()? else {
        return Ok(());
    };
    let mut sides = sides(&object)?;
    let processors = processors()?;
    if processors.len() < 2 {
        println!("NO RACE: of one processor alone; the sides open each tuple one after the other");
    }
    let mut sum = Tally::default();
    for kind in Kind::all() {
        let tally = round(&sides, &processors, &kind.tuples());
        let tally = tally.with_context(|| format!("{kind:?}"))?;
        println!("{kind:?}: {tally:?}");
        sum.add(&tally);
        forget_all(&mut sides)?;
    }
    println!("all: {sum:?}");
    // A winner that the host has put aside is not waited for.
    ensure!(
        sum.raced < ENOUGH || sum.followed * 2 > sum.raced,
        "losers do not use what the winner has written"
    );
    Ok(())
}

/// Tuples of lines in which two other flows are: with its own request a line has as many half-open entries as it may, so
/// whoever comes second is sent to another line.
fn crowded(kind: Kind) -> (Vec<Tuple>, Vec<Tuple>) {
    let (tuples, mut crowd) = (kind.tuples(), Vec::new());
    let line = |tuple: &Tuple| FlowTag::of(&tuple.request(), PacketWorld::seed()).first(FLOW_LINES);
    let mut short: BTreeMap<u32, usize> = tuples.iter().map(|it| (line(it), 2)).collect();
    let other = Kind {
        port: 40_001,
        ..kind
    };
    for number in 100_000.. {
        let client = (PacketWorld::outside(kind.v6, number), Port::new(other.port));
        let tuple = Tuple {
            kind: other,
            client,
        };
        let line = line(&tuple);
        let Some(left) = short.get_mut(&line) else {
            continue;
        };
        crowd.push(tuple);
        *left -= 1;
        if *left == 0 {
            short.remove(&line);
        }
        if short.is_empty() {
            break;
        }
    }
    (tuples, crowd)
}

#[test]
fn the_same_where_the_winner_takes_the_last_room_of_a_line() -> Result<()> {
    let Some(object) = object()? else {
        return Ok(());
    };
    let mut sides = sides(&object)?;
    let processors = processors()?;
    for kind in Kind::all() {
        let (tuples, crowd) = crowded(kind);
        for tuple in &crowd {
            open(&sides[0], 0, tuple)?;
        }
        let tally = round(&sides, &processors, &tuples);
        let tally = tally.with_context(|| format!("{kind:?}"))?;
        println!("{kind:?}: {tally:?}");
        forget_all(&mut sides)?;
    }
    Ok(())
}
