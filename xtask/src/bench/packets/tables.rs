//! What bursts on all ways come to: the cost of a packet, the node's share of it, and how the agent compares. Pure.

use super::burst::Burst;
use crate::bench::rival::contender::Contender;

/// How a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The same way without the node that is measured.
    Without,
    /// Through a node that routes it, without a Service.
    Routed,
    /// The same, with a program that only returns at each hook of the agent's.
    Hooked,
    /// Through a Service on a contender's node.
    Contender(Contender),
}

impl Way {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Without => "without the node",
            Self::Routed => "routed, no Service",
            Self::Hooked => "routed, empty programs",
            Self::Contender(contender) => contender.title(),
        }
    }
}

/// Each way there and back, in one round.
pub(super) type Round = Vec<(Way, [Burst; 2])>;

/// A row for each way.
pub(super) fn costs(rounds: &[Round]) -> Vec<Vec<String>> {
    let head = [
        "way",
        "median",
        "least and greatest round",
        "there / back",
        "the node's share",
        "over routed",
        "packets a second of a core",
        "by the clock",
        "lost, %",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let ways = rounds.first().map_or(&[][..], Vec::as_slice);
    rows.extend(ways.iter().map(|(way, _)| row(rounds, *way)));
    rows
}

fn row(rounds: &[Round], way: Way) -> Vec<String> {
    let all = Sorted::of(rounds.iter().filter_map(|round| cost(round, way)));
    let turns = Sorted::of(rounds.iter().filter_map(|round| {
        let [there, back] = bursts(round, way)?;
        Some(there.cpu / back.cpu)
    }));
    let over = |base: Way| {
        let each = rounds.iter().filter_map(|round| excess(round, way, base));
        if way == base {
            return String::new();
        }
        Sorted::of(each).median_of(0)
    };
    let each = |of: fn(&Burst) -> f64| {
        let rounds = rounds.iter().filter_map(|round| bursts(round, way));
        Sorted::of(rounds.flatten().map(|it| of(&it)))
    };
    vec![
        way.title().to_owned(),
        all.median_of(0),
        all.range(0),
        turns.range(3),
        over(Way::Without),
        if way == Way::Without {
            String::new()
        } else {
            over(Way::Routed)
        },
        format!("{:.0}", 1e9 / all.median()),
        each(|it| it.rate).median_of(0),
        each(|it| it.lost * 100.0).median_of(2),
    ]
}

/// How the agent's node compares with kube-proxy's in its better mode.
pub(super) fn verdict(rounds: &[Round]) -> String {
    let agent = Way::Contender(Contender::Agent);
    let rivals = [Contender::Iptables, Contender::Nftables].map(Way::Contender);
    let share = |way| {
        let shares = rounds.iter();
        Sorted::of(shares.filter_map(|round| excess(round, way, Way::Without)))
    };
    let better = rivals
        .into_iter()
        .min_by(|one, two| share(*one).median().total_cmp(&share(*two).median()));
    let Some(better) = better else {
        return String::new();
    };
    let ratio = |base: Option<Way>| {
        let of = |round: &Round, way| match base {
            Some(base) => excess(round, way, base),
            None => cost(round, way),
        };
        let rounds = rounds.iter();
        let ratios = rounds.filter_map(|round| Some(of(round, agent)? / of(round, better)?));
        let ratios = Sorted::of(ratios);
        format!("{} ({})", ratios.median_of(3), ratios.range(3))
    };
    let routed = rounds.iter().filter_map(|round| {
        let [there, back] = bursts(round, Way::Routed)?;
        let without = cost(round, Way::Without)?;
        Some((there.cpu - without) / (back.cpu - without))
    });
    format!(
        "mesh-agent by {}, its better mode here: the node's share {}, what the Service adds to routing {}, all of the way {}. \
         Beside it the node's share of the routed way there by back, which should be 1: {}.",
        better.title(),
        ratio(Some(Way::Without)),
        ratio(Some(Way::Routed)),
        ratio(None),
        Sorted::of(routed).range(3)
    )
}

fn bursts(round: &Round, way: Way) -> Option<[Burst; 2]> {
    let found = round.iter().find(|(it, _)| *it == way)?;
    Some(found.1)
}

/// Of one round, in the middle of both turns.
fn cost(round: &Round, way: Way) -> Option<f64> {
    let [there, back] = bursts(round, way)?;
    Some(f64::midpoint(there.cpu, back.cpu))
}

fn excess(round: &Round, way: Way, base: Way) -> Option<f64> {
    Some(cost(round, way)? - cost(round, base)?)
}

/// Figures of all rounds.
pub(super) struct Sorted(Vec<f64>);

impl Sorted {
    pub(super) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    pub(super) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match (self.0.len() % 2, self.0.get(middle)) {
            (_, None) => f64::NAN,
            (0, Some(upper)) => f64::midpoint(self.0[middle - 1], *upper),
            (_, Some(figure)) => *figure,
        }
    }

    /// With so many decimals.
    pub(super) fn median_of(&self, decimals: usize) -> String {
        format!("{:.decimals$}", self.median())
    }

    /// The two figures between which the true median lies with 95 of 100 chances, however they are distributed (Conover,
    /// Practical Nonparametric Statistics, 3.2). With fewer than six nothing is as sure: the least and the greatest.
    pub(super) fn interval(&self, decimals: usize) -> String {
        let count = self.0.len();
        // Figures below the interval, of which each is below the true median by the toss of a coin.
        let (mut chance, mut sum, mut below) = (0.5_f64.powi(count as i32), 0.0, 0);
        while below < count / 2 {
            sum += chance;
            if sum > 0.025 {
                break;
            }
            chance *= (count - below) as f64 / (below + 1) as f64;
            below += 1;
        }
        let outside = below.saturating_sub(1);
        match (self.0.get(outside), self.0.iter().nth_back(outside)) {
            (Some(least), Some(most)) => format!("{least:.decimals$} - {most:.decimals$}"),
            _ => "-".to_owned(),
        }
    }

    /// The least and the greatest.
    pub(super) fn range(&self, decimals: usize) -> String {
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) => format!("{least:.decimals$} - {most:.decimals$}"),
            _ => "-".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burst(cpu: f64) -> [Burst; 2] {
        [Burst {
            cpu,
            rate: 1.0,
            lost: 0.0,
        }; 2]
    }

    fn round(agent: f64) -> Round {
        vec![
            (Way::Without, burst(1000.0)),
            (Way::Routed, burst(1500.0)),
            (Way::Hooked, burst(1550.0)),
            (Way::Contender(Contender::Agent), burst(agent)),
            (Way::Contender(Contender::Iptables), burst(3000.0)),
            (Way::Contender(Contender::Nftables), burst(2500.0)),
        ]
    }

    #[test]
    fn shares_are_what_is_over_the_way_without_the_node() {
        let rows = costs(&[round(2000.0), round(2200.0)]);
        assert_eq!(rows.len(), 7);
        assert_eq!(rows[4][1], "2100");
        assert_eq!(rows[4][4..7], ["1100", "600", "476190"]);
        assert_eq!(rows[1][4..6], ["", ""]);
    }

    #[test]
    fn the_median_is_between_two_figures_with_known_chances() {
        let interval = |count: u32| Sorted::of((1..=count).map(f64::from)).interval(0);
        // Ranks of the tables of the binomial distribution.
        for (count, ranks) in [
            (3, "1 - 3"),
            (6, "1 - 6"),
            (10, "2 - 9"),
            (20, "6 - 15"),
            (40, "14 - 27"),
        ] {
            assert_eq!(interval(count), ranks);
        }
    }

    #[test]
    fn the_agent_is_judged_by_the_better_mode() {
        let verdict = verdict(&[round(2000.0)]);
        assert!(verdict.contains("nftables, its better mode"), "{verdict}");
        assert!(verdict.contains("share 0.667 ("), "{verdict}");
        assert!(verdict.contains("routing 0.500 ("), "{verdict}");
    }
}
