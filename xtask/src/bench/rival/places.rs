//! Which Services are found first and last. The chain of iptables is walked rule by rule, in an order of kube-proxy's own;
//! elsewhere the order of the objects has to do.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{
    contender::{Contender, Programs},
    exchange::Ends,
    objects,
    world::{Seat, World},
};

/// The ends, and where they stand: rule numbers of how many, for iptables.
pub(super) fn ends(
    world: &World,
    seat: &Seat,
    programs: &Programs,
) -> Result<(Ends, Option<String>)> {
    let mut order: Vec<u32> = world.real.iter().copied().collect();
    let mut places = None;
    if seat.contender == Contender::Iptables {
        let chain = chain(seat, programs)?;
        let place = |number: &u32| {
            let address = format!(" {}/32 ", objects::frontend(*number).ip());
            chain.iter().position(|rule| rule.contains(&address))
        };
        order.sort_by_key(place);
        if let (Some(first), Some(last)) = (order.first(), order.last()) {
            let number = |it: &u32| place(it).map_or(0, |place| place + 1);
            places = Some(format!(
                "rules {} and {} of {}",
                number(first),
                number(last),
                chain.len()
            ));
        }
    }
    let first = *order.first().context("no Service has real endpoints")?;
    let last = *order.last().context("no Service has real endpoints")?;
    let ends = Ends {
        direct: world.direct()?,
        first: objects::frontend(first),
        last: objects::frontend(last),
    };
    Ok((ends, places))
}

/// The rules of KUBE-SERVICES.
fn chain(seat: &Seat, programs: &Programs) -> Result<Vec<String>> {
    let arguments = [programs.path.as_str(), "iptables-save", "-t", "nat"];
    let output = seat.node.host().run(Path::new("/usr/bin/env"), arguments)?;
    ensure!(output.status.success(), "iptables-save failed: {output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let rules = text
        .lines()
        .filter(|line| line.starts_with("-A KUBE-SERVICES "));
    Ok(rules.map(str::to_owned).collect())
}
