//! From a pod to a ClusterIP where no socket hook helps: request and response, short connections and a stream through the
//! agent's tc programs and their conntrack, against the same between two pods of a node where nothing is attached. What
//! passes the programs without a Service, and what the socket hooks have translated, are beside it.

use std::path::Path;

use anyhow::Result;

use super::{
    kinds::{KINDS, Route},
    pods::{Figure, Round, SECONDS, World},
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

pub(super) fn measure(agent: &Path, rounds: u32, document: &mut Document) -> Result<()> {
    run::say("from a pod to a ClusterIP");
    let (mut figures, mut programs) = (KINDS.each_ref().map(|_| Vec::new()), String::new());
    for number in 1..=rounds {
        run::say(&format!("round {number} of {rounds}"));
        let world = World::build(agent)?;
        for (kind, figures) in KINDS.iter().zip(&mut figures) {
            figures.push(world.round(kind)?);
        }
        if number == rounds {
            programs = world.programs()?;
        }
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
        "TCP, IPv4, client on processor {}, server on processor {SERVER_CPU}, {SECONDS} s each, every way forwards and \
         backwards in each round. Ratios are to nothing attached of the same round, with the least and the greatest; the \
         last column, which should be 1, is nothing attached there by back. By CPU time: that of client, server and both \
         ksoftirqd; others on the machine lengthen it by cold caches alone. Each round has nodes of its own: two that are \
         made alike differ by a hundredth or two, as long as they live.",
        client_cpu()
    ));
    document.note(&format!(
        "The programs in 3000 exchanges each, by BPF_ENABLE_STATS: {programs}."
    ));
    Ok(())
}

fn head() -> Vec<String> {
    let mut head = vec![String::new()];
    head.extend(Route::ALL.map(|route| route.title().to_owned()));
    for route in &Route::ALL[1..] {
        head.push(format!("{} / nothing", route.title()));
    }
    head.push("nothing: there / back".to_owned());
    head
}

/// Greater is better.
fn row(title: &str, rounds: &[Round], of: fn(&Figure) -> f64) -> Vec<String> {
    let middle = |round: &Round, route: Route| {
        let [there, back] = round[route as usize].each_ref().map(of);
        f64::midpoint(there, back)
    };
    let mut cells = vec![title.to_owned()];
    for route in Route::ALL {
        let figures = rounds.iter().map(|round| middle(round, route));
        cells.push(Sorted::of(figures).median_of(0));
    }
    for route in &Route::ALL[1..] {
        let ratios = rounds
            .iter()
            .map(|round| middle(round, *route) / middle(round, Route::Bare));
        let ratios = Sorted::of(ratios);
        cells.push(format!("{} ({})", ratios.median_of(3), ratios.range(3)));
    }
    let turns = rounds.iter().map(|round| {
        let [there, back] = round[Route::Bare as usize].each_ref().map(of);
        there / back
    });
    cells.push(Sorted::of(turns).range(3));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_rates_and_their_ratios() {
        let figure = |rate| [Figure { rate, cpu: 1.0 }; 2];
        let round = [100.0, 99.0, 98.0, 95.0, 100.0].map(figure).to_vec();
        let cells = row("x", &[round], |it| it.rate);
        assert_eq!(cells.len(), head().len());
        assert_eq!(cells[4], "95");
        assert_eq!(cells[8], "0.950 (0.950 - 0.950)");
        assert_eq!(cells[10], "1.000 - 1.000");
    }
}
