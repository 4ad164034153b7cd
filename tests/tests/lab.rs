//! The lab itself: what it makes carries traffic, and nothing of it stays. No agent is needed.

use std::{
    fs,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use mesh_lab::{Call, Families, Lab, Needs, Node, Pod, sweep, test, traffic::Failure};

fn endpoints(pod: &Pod, port: u16) -> Vec<SocketAddr> {
    let addresses = pod.address().all();
    addresses.map(|it| SocketAddr::new(it, port)).collect()
}

/// Every kind of traffic from one place reaches a server.
fn all_traffic(from: &mesh_lab::Place, to: SocketAddr, name: &str) -> Result<()> {
    let calls = [
        Call::connect(to).count(20),
        Call::connect(to).count(20).udp(),
        Call::connect(to).count(20).unconnected(),
        Call::connect(to)
            .count(20)
            .unconnected()
            .flag("--keep-socket"),
        Call::connect(to).count(20).mapped(),
        Call::connect(to).count(20).mapped().unconnected(),
        Call::crr(to).count(20),
        Call::crr(to).count(20).udp(),
    ];
    for call in calls {
        let report = from.call(&call.expect(name))?;
        ensure!(report.answered == 20 && report.is_clean(), "{report:?}");
    }
    for call in [Call::rr(to), Call::rr(to).udp(), Call::rr(to).unconnected()] {
        let report = from.call(&call.count(50))?;
        ensure!(report.answered == 50 && report.is_clean(), "{report:?}");
    }
    let stream = from.call(
        &Call::stream(to)
            .option("--size", 65536)
            .option("--duration", 0.1),
    )?;
    ensure!(stream.is_clean() && stream.bytes > 0, "{stream:?}");
    Ok(())
}

fn two_nodes(lab: &mut Lab, families: Families) -> Result<(Node, Node)> {
    Ok((lab.node("one", families)?, lab.node("two", families)?))
}

#[test]
fn pods_and_hosts_reach_pods_in_both_families() -> Result<()> {
    test("lab-dual", Needs::Lab, |lab| {
        let (one, two) = two_nodes(lab, Families::Dual)?;
        let (client, near, far) = (one.pod("client")?, one.pod("near")?, two.pod("far")?);
        let _near = near.place().serve("near", &[8080])?;
        let _far = far.place().serve("far", &[8080])?;
        for (pod, name) in [(&near, "near"), (&far, "far")] {
            for to in endpoints(pod, 8080) {
                all_traffic(&client.place(), to, name).with_context(|| format!("to {to}"))?;
                all_traffic(&one.host(), to, name).with_context(|| format!("host to {to}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn one_family_alone_works() -> Result<()> {
    for families in [Families::V4, Families::V6] {
        test("lab-single", Needs::Lab, |lab| {
            let (one, two) = two_nodes(lab, families)?;
            let (client, server) = (one.pod("client")?, two.pod("server")?);
            let _server = server.place().serve("server", &[8080])?;
            let to = endpoints(&server, 8080);
            ensure!(to.len() == 1, "{to:?}");
            all_traffic(&client.place(), to[0], "server")
        })?;
    }
    Ok(())
}

#[test]
fn failures_have_names() -> Result<()> {
    test("lab-failures", Needs::Lab, |lab| {
        let node = lab.node("one", Families::Dual)?;
        let (client, server) = (node.pod("client")?, node.pod("server")?);
        let _server = server.place().serve("server", &[8080])?;
        for (to, failure) in [
            (endpoints(&server, 8081)[0], Failure::Refused),
            ("10.96.0.1:80".parse()?, Failure::Unreachable),
            ("[fd00:10:96::1]:80".parse()?, Failure::Unreachable),
        ] {
            // Once each: routers say "unreachable" a few times a second and then nothing.
            let report = client.place().call(&Call::connect(to).count(1))?;
            ensure!(report.failed(failure) == 1, "{to}: {report:?}");
        }
        let to = endpoints(&server, 8080)[0];
        let stranger = client
            .place()
            .call(&Call::connect(to).count(3).expect("other"))?;
        ensure!(stranger.failed(Failure::Misdirected) == 3, "{stranger:?}");
        Ok(())
    })
}

#[test]
fn load_runs_until_it_is_stopped_and_a_server_ends_in_peace() -> Result<()> {
    test("lab-load", Needs::Lab, |lab| {
        let node = lab.node("one", Families::V4)?;
        let (client, server) = (node.pod("client")?, node.pod("server")?);
        let mut process = server.place().serve("server", &[8080])?;
        let to = endpoints(&server, 8080)[0];
        let load = client.place().load(&Call::connect(to).flag("--order"))?;
        let hold = client
            .place()
            .load(&Call::hold(to).option("--connections", 10))?;
        let count = client.place().call(&Call::connect(to).count(100))?;
        let (load, hold) = (load.stop()?, hold.stop()?);
        ensure!(
            count.is_clean() && load.is_clean() && hold.is_clean(),
            "{load:?} {hold:?}"
        );
        ensure!(
            hold.answered >= 20,
            "opened and asked at least once: {hold:?}"
        );
        ensure!(
            u64::try_from(load.order.len())? == load.answered,
            "{load:?}"
        );
        ensure!(process.stop()?.success(), "{}", process.said());
        Ok(())
    })
}

#[test]
fn processes_are_in_the_cgroup_of_their_place() -> Result<()> {
    test("lab-cgroup", Needs::Lab, |lab| {
        let node = lab.node("one", Families::V4)?;
        let pod = node.pod("web")?;
        for (place, end) in [
            (pod.place(), "/one/pods/web\n"),
            (node.host(), "/one/host\n"),
        ] {
            let output = place.run(Path::new("cat"), ["/proc/self/cgroup"])?;
            let text = String::from_utf8(output.stdout)?;
            ensure!(text.ends_with(end), "{text}");
        }
        Ok(())
    })
}

#[test]
fn many_pods_at_once() -> Result<()> {
    test("lab-many", Needs::Lab, |lab| {
        let node = lab.node("one", Families::Dual)?;
        let names: Vec<String> = (0..100).map(|number| format!("p{number}")).collect();
        let pods = node.pods(&names)?;
        let last = pods.last().context("there are pods")?;
        let _server = last.place().serve("last", &[8080])?;
        for to in endpoints(last, 8080) {
            let report = pods[0].place().call(&Call::connect(to).count(5))?;
            ensure!(report.by("last") == 5, "{report:?}");
        }
        Ok(())
    })
}

/// Everything on the host that carries a name.
fn traces(name: &str) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let cgroup2 = mounts.lines().find(|line| line.contains(" cgroup2 "));
    let cgroup2 = cgroup2.and_then(|line| line.split(' ').nth(1));
    let mut directories = vec![std::env::temp_dir()];
    directories.extend(["/run/netns", "/sys/fs/bpf"].map(PathBuf::from));
    directories.push(cgroup2.context("no cgroup2")?.into());
    let mut traces = Vec::new();
    for entries in directories
        .iter()
        .filter_map(|path| fs::read_dir(path).ok())
    {
        for entry in entries {
            traces.push(entry?.path());
        }
    }
    traces.retain(|path| path.to_string_lossy().contains(name));
    Ok(traces)
}

fn ensure_gone(name: &str) -> Result<()> {
    let traces = traces(name)?;
    ensure!(traces.is_empty(), "{traces:?}");
    Ok(())
}

/// A lab with a process in it; its name, and the process's pid.
fn busy_lab() -> Result<(Lab, String, u32)> {
    let mut lab = Lab::new("lab-busy")?;
    let node = lab.node("one", Families::Dual)?;
    let pod = node.pod("web")?;
    let server = pod.place().serve("web", &[8080])?;
    let (name, pid) = (lab.name().to_owned(), server.pid());
    // Nobody but the lab knows of the process now.
    server.detach();
    ensure!(traces(&name)?.len() >= 5, "{:?}", traces(&name)?);
    Ok((lab, name, pid))
}

fn ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn nothing_stays() -> Result<()> {
    test("lab-nothing", Needs::Lab, |_| {
        let (lab, name, pid) = busy_lab()?;
        lab.close()?;
        ensure_gone(&name)?;
        ensure!(ended(pid), "the server lives");
        Ok(())
    })
}

#[test]
fn nothing_stays_after_a_panic() -> Result<()> {
    test("lab-panic", Needs::Lab, |_| {
        let (lab, name, pid) = busy_lab()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _lab = lab;
            std::panic::resume_unwind(Box::new("as a failed test does"));
        }));
        ensure!(outcome.is_err(), "it panicked");
        ensure_gone(&name)?;
        ensure!(ended(pid), "the server lives");
        Ok(())
    })
}

#[test]
fn what_a_dead_run_left_is_swept_and_what_was_kept_stays() -> Result<()> {
    test("lab-sweep", Needs::Lab, |_| {
        let (lab, name, _) = busy_lab()?;
        lab.keep()?;
        // The same things under the name of a process that never was: a start time of 1 is before any process's.
        let dead = format!("mesh-lab-{}-1-1-dead", std::process::id());
        fs::create_dir(std::env::temp_dir().join(&dead))?;
        let added = std::process::Command::new("ip")
            .args(["netns", "add", &format!("{dead}.one")])
            .status()?;
        ensure!(
            added.success() && traces(&dead)?.len() == 2,
            "{:?}",
            traces(&dead)?
        );
        sweep()?;
        ensure_gone(&dead)?;
        ensure!(!traces(&name)?.is_empty(), "what is kept stays");
        mesh_lab::remove_run(&name)?;
        ensure_gone(&name)?;
        Ok(())
    })
}
