//! A virtual machine: none of its sockets is seen, and the node has a tap of it, by which frames come whose checksums and
//! segments are left to the node.

use anyhow::{Context, Result, ensure};
use mesh_lab::{
    Attached, Machine, Needs, Node, Outside, eventually, pinned_links, serves_everything, test,
};

fn attached(node: &Node, machine: &Machine) -> Result<()> {
    let link = machine.pod().link();
    eventually("the tap has the programs of a pod", || {
        let all = Attached::all(&node.host())?;
        ensure!(all.get(&link) == Some(&Attached::pod()), "{all:?}");
        Ok(())
    })
}

#[test]
fn a_machine_is_a_client() -> Result<()> {
    test("machine-client", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 4)?;
        let one = outside.scene.one.clone();
        outside.add_addresses(&one)?;
        let before = pinned_links(&one)?;
        let machine = one.machine("machine")?;
        attached(&one, &machine)?;
        let names = outside.scene.web.ready();
        let client = machine.pod().place();
        for to in outside.scene.all("http") {
            serves_everything(&client, to, &names)?;
        }
        for to in outside.node_ports(80) {
            serves_everything(&client, to, &names)?;
        }
        for to in Outside::EXTERNAL.into_iter().chain(Outside::BALANCED) {
            serves_everything(&client, (to, 80).into(), &names)?;
        }
        drop(machine);
        eventually("nothing is left of it", || {
            let after = pinned_links(&one)?;
            ensure!(after == before, "{after:?}, not {before:?}");
            Ok(())
        })
    })
}

/// Of everybody, its own self included. (There are others: a UDP port that talks to it by another address already is led
/// to one of them.)
#[test]
fn a_machine_is_a_backend() -> Result<()> {
    test("machine-backend", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 3)?;
        let (one, two) = (outside.scene.one.clone(), outside.scene.two.clone());
        let machine = one.machine("machine")?;
        attached(&one, &machine)?;
        outside.scene.web.add(machine.pod())?;
        outside.add_addresses(&two)?;
        let names = outside.scene.web.ready();
        let far = two.pod("far")?;
        let inside = [
            machine.pod().place(),
            outside.scene.client.place(),
            outside.inside()?,
            far.place(),
            far.bare_place()?,
            one.host(),
        ];
        for place in &inside {
            for to in outside.scene.all("http") {
                serves_everything(place, to, &names)
                    .with_context(|| format!("from {place:?} to {to}"))?;
            }
        }
        let addresses = Outside::EXTERNAL.into_iter().chain(Outside::BALANCED);
        let addresses = addresses.map(|ip| (ip, 80).into());
        for to in outside.node_ports(80).into_iter().chain(addresses) {
            serves_everything(&outside.client(), to, &names)
                .with_context(|| format!("from outside to {to}"))?;
        }
        Ok(())
    })
}
