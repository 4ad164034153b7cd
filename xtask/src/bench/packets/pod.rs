//! From a pod to a ClusterIP where no socket hook helps: request and response, short connections and a stream through the
//! agent's tc programs and their conntrack, against the same between two pods of a node where nothing is attached. What
//! passes the programs without a Service, and what the socket hooks have translated, are beside it.

use std::path::Path;

use anyhow::Result;

use super::{
    kinds::{KINDS, Route},
    pods::{Figure, SECONDS, TURNS, Walk, World},
    tables::Sorted,
};
use crate::{
    bench::{
        report::Document,
        world::{SERVER_CPU, client_cpu},
    },
    run,
};

pub(super) const ROUNDS: u32 = 20;
/// By which it is known what the programs take.
const EXCHANGES: u64 = 3000;

pub(super) fn measure(agent: &Path, rounds: u32, document: &mut Document) -> Result<()> {
    run::say("from a pod to a ClusterIP");
    let (mut figures, mut programs) = (KINDS.each_ref().map(|_| Vec::new()), String::new());
    for number in 1..=rounds {
        run::say(&format!("round {number} of {rounds}"));
        let world = World::build(agent, number as usize)?;
        for (kind, figures) in KINDS.iter().zip(&mut figures) {
            figures.push(world.turns(kind)?);
        }
        programs = world.programs(if number == rounds { EXCHANGES } else { 100 })?;
        world.close()?;
    }
    let mut rows = (vec![head()], vec![head()]);
    for (kind, figures) in KINDS.iter().zip(&figures) {
        let title = format!("{}: {}", kind.title, kind.unit);
        rows.0.push(row(&title, figures, |it| it.rate));
        rows.1.push(row(&title, figures, |it| 1e9 / it.cpu));
    }
    document.table("pod to ClusterIP on one node", &rows.0);
    document.table("the same by a second of CPU time", &rows.1);
    document.note(&format!(
        "TCP, IPv4, client on processor {}, server on processor {SERVER_CPU}, {SECONDS} s each, every way {TURNS} times \
         forwards and backwards in each of {rounds} rounds, and nothing attached between any two; once more where not one \
         call was made. Ratios are to nothing attached just before and after: the median of the rounds' medians, and in \
         brackets where the true one is with 95 of 100 chances. The last column, which should be 1, is nothing attached \
         there by back, least and greatest round. By CPU time: that of client, server and both ksoftirqd; others on the \
         machine lengthen it by cold caches alone. Each round has nodes of its own, made in turn: two that are made alike \
         differ by something as long as they live.",
        client_cpu()
    ));
    document.note(&format!(
        "The programs in {EXCHANGES} exchanges each, in the last round, by BPF_ENABLE_STATS: {programs}."
    ));
    Ok(())
}

fn head() -> Vec<String> {
    let mut head = vec![String::new()];
    head.extend(Route::ALL.map(|route| route.title().to_owned()));
    for route in Route::OTHERS {
        head.push(format!("{} / nothing", route.title()));
    }
    head.push("nothing: there / back".to_owned());
    head
}

/// Greater is better.
fn row(title: &str, rounds: &[Vec<[Walk; 2]>], of: fn(&Figure) -> f64) -> Vec<String> {
    let sorted = |one: &dyn Fn(&[[Walk; 2]]) -> f64| Sorted::of(rounds.iter().map(|it| one(it)));
    let median = |figures: &mut dyn Iterator<Item = f64>| Sorted::of(figures).median();
    let mut cells = vec![title.to_owned()];
    for route in Route::ALL {
        let all = |round: &[[Walk; 2]]| {
            median(&mut round.iter().flatten().flat_map(|it| rates(it, route, of)))
        };
        cells.push(sorted(&all).median_of(0));
    }
    for route in Route::OTHERS {
        let ratios = sorted(&|round| {
            median(&mut round.iter().flatten().filter_map(|it| ratio(it, route, of)))
        });
        cells.push(format!("{} ({})", ratios.median_of(3), ratios.interval(3)));
    }
    let turns = sorted(&|round| {
        let [there, back] = [0, 1].map(|at| {
            let walks = round.iter().filter_map(|turn| turn.get(at));
            median(&mut walks.flat_map(|it| rates(it, Route::Bare, of)))
        });
        there / back
    });
    cells.push(turns.range(3));
    cells
}

fn rates(walk: &Walk, route: Route, of: fn(&Figure) -> f64) -> impl Iterator<Item = f64> {
    let all = walk.iter().filter(move |(it, _)| *it == route);
    all.map(move |(_, figure)| of(figure))
}

/// Of a route by nothing attached just before and after it.
fn ratio(walk: &Walk, route: Route, of: fn(&Figure) -> f64) -> Option<f64> {
    walk.windows(3).find_map(|three| match three {
        [(_, before), (at, figure), (_, after)] if *at == route => {
            Some(of(figure) / f64::midpoint(of(before), of(after)))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_rates_and_their_ratios() {
        let walk = |rates: [(Route, f64); 9]| -> Walk {
            let figure = |(route, rate)| (route, Figure { rate, cpu: 1.0 });
            rates.map(figure).to_vec()
        };
        let bare = |rate| (Route::Bare, rate);
        let [empty, direct, packets, sockets] = [98.0, 97.0, 95.0, 200.0];
        let there = walk([
            bare(100.0),
            (Route::Empty, empty),
            bare(100.0),
            (Route::Direct, direct),
            bare(100.0),
            (Route::Packets, packets),
            bare(100.0),
            (Route::Sockets, sockets),
            bare(300.0),
        ]);
        let back = there.iter().rev().copied().collect();
        let cells = row("x", &[vec![[there, back]]], |it| it.rate);
        assert_eq!(cells.len(), head().len());
        assert_eq!((cells[1].as_str(), cells[4].as_str()), ("100", "95"));
        assert_eq!(cells[8], "0.950 (0.950 - 0.950)");
        assert_eq!(cells[9], "1.000 (1.000 - 1.000)");
        assert_eq!(cells[10], "1.000 - 1.000");
    }
}
