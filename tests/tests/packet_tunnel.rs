//! Tunnels whose packets have no link header, as those of ipip and WireGuard: clients that come by one, and pods that are
//! reached by one. Bulk does not fit into it as it is sent.

use anyhow::{Result, ensure};
use mesh_lab::{
    Attached, Call, Condition, Needs, Outside, Place, Tunnel, eventually, node_port,
    serves_everything, settle, test, traffic::Failure,
};
use serde_json::Value;

fn attached(node: &Place) -> Result<()> {
    eventually("the tunnel has the programs of its kind", || {
        let all = Attached::all(node)?;
        ensure!(
            all.get(Tunnel::INTERFACE) == Some(&Attached::l3_device()),
            "{all:?}"
        );
        Ok(())
    })
}

/// The node's address in a tunnel is one of the node's; what nobody serves is refused there.
#[test]
fn node_ports_of_a_tunnel() -> Result<()> {
    test("tunnel-node-port", Needs::Agent, |lab| {
        let mut outside = Outside::new(lab, 4)?;
        let _tunnel = Tunnel::between(&outside.scene.one, &outside.host)?;
        attached(&outside.scene.one.host())?;
        let names = outside.scene.web.ready();
        let addresses = || Tunnel::address(1).all();
        for ip in addresses() {
            serves_everything(&outside.client(), node_port(ip, 80), &names)?;
        }
        for name in names {
            outside.scene.web.set(&name, Condition::Gone)?;
        }
        outside.scene.web.publish(&outside.scene.source)?;
        for ip in addresses() {
            let to = node_port(ip, 80);
            settle(&outside.client(), to, &[])?;
            let call = Call::connect(to).udp().count(5);
            let report = outside.client().call(&call)?;
            ensure!(report.failed(Failure::Refused) == 5, "{report:?}");
        }
        Ok(())
    })
}

/// Clients that are no pods have the source of the tunnel where they leave by it.
#[test]
fn pods_behind_a_tunnel() -> Result<()> {
    test("tunnel-pods", Needs::Agent, |lab| {
        let outside = Outside::new(lab, 4)?;
        let (one, two) = (&outside.scene.one, &outside.scene.two);
        let tunnel = Tunnel::between(one, two)?;
        tunnel.carry_pods()?;
        for node in [one, two] {
            attached(&node.host())?;
        }
        let names = outside.scene.web.ready();
        for to in outside.scene.all("http") {
            serves_everything(&outside.inside()?, to, &names)?;
        }
        for to in outside.node_ports(80) {
            serves_everything(&outside.client(), to, &names)?;
        }
        let shown = one.host().ip("-j -s link show dev tun0")?;
        let shown: Value = serde_json::from_str(&shown)?;
        let sent = shown.pointer("/0/stats64/tx/packets");
        ensure!(sent.and_then(Value::as_u64) > Some(1000), "{shown}");
        Ok(())
    })
}
