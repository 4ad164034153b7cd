//! From pins and the object to programs and maps that can be put in force. Opening touches nothing that is in force;
//! committing swaps programs link by link and then the maps' pins.

use std::{
    collections::BTreeSet,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use aya::{
    Ebpf, EbpfLoader,
    programs::{Program, ProgramError},
};
use mesh_common::{MAPS, MapKind, MapSpec};

use super::{
    DatapathError,
    attach::{Cgroup, HOOKS, attach, is_attached},
    maps::Maps,
    object,
    operations::Operations,
    pins::{self, Found, Pins},
};
use crate::{
    plan::{Capacities, TableDump},
    telemetry::ProgramView,
};

/// How much the maps hold, as the flags of `run` say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// --max-services
    pub services: u32,
    /// --max-backends
    pub backends: u32,
    /// --max-affinity
    pub affinity: u32,
    /// --max-sockets
    pub sockets: u32,
}

impl Sizes {
    /// Entries of each map. Slots have room for sets that grow by doubling.
    fn entries(&self, spec: &MapSpec) -> u32 {
        match spec.name {
            "frontends" | "services" => self.services,
            "sets" => self.services.saturating_mul(2),
            "slots" => self.backends.saturating_mul(4),
            "backends" => self.backends,
            "affinity" => self.affinity,
            "sockets" => self.sockets,
            _ => spec.default_entries,
        }
    }

    /// The same for the planner.
    #[must_use]
    pub fn capacities(&self) -> Capacities {
        let [frontends, services, sets, slots, backends] =
            std::array::from_fn(|index| self.entries(&MAPS[index]));
        Capacities {
            frontends,
            services,
            sets,
            slots,
            backends,
        }
    }
}

/// What to open.
#[derive(Clone, Debug)]
pub struct Options {
    /// --bpffs
    pub bpffs: PathBuf,
    /// --cgroup
    pub cgroup: PathBuf,
    /// Sizes of the maps.
    pub sizes: Sizes,
}

/// A datapath that is loaded, and what the kernel already held.
pub struct Opened {
    /// Not yet in force.
    pub datapath: Datapath,
    /// The maps: of an earlier agent, or new.
    pub maps: Maps,
    /// The derived maps of an earlier agent, if they could be taken over.
    pub dump: Option<TableDump>,
}

/// The loaded programs.
pub struct Datapath {
    pins: Pins,
    cgroup: Cgroup,
    ebpf: Ebpf,
    /// Maps that are new: their pins are put in place at commit.
    fresh: BTreeSet<&'static str>,
}

impl Datapath {
    /// Loads the programs over the maps that are pinned, where they fit, and over new ones elsewhere.
    ///
    /// # Errors
    /// The directory, the cgroup, or what the kernel says of the object.
    pub fn open(options: &Options) -> Result<Opened, DatapathError> {
        let pins = Pins::new(&options.bpffs);
        pins.prepare()?;
        let cgroup = Cgroup::open(&options.cgroup)?;
        let fresh = fresh_maps(&pins, &options.sizes)?;
        let ebpf = load(&pins, &options.sizes, &fresh)?;
        let maps = Maps::open(
            &|spec| path_of(&pins, spec, &fresh),
            Arc::new(Operations::default()),
        )?;
        let taken_over = MAPS
            .iter()
            .all(|spec| spec.kind != MapKind::Derived || !fresh.contains(spec.name));
        let dump = if taken_over {
            Some(maps.tables()?)
        } else {
            None
        };
        Ok(Opened {
            datapath: Self {
                pins,
                cgroup,
                ebpf,
                fresh,
            },
            maps,
            dump,
        })
    }

    /// Puts programs and new maps in force. The maps hold the first full state by now.
    ///
    /// # Errors
    /// A link or a pin that cannot be made; what was put in force before it stays so, and the next start goes on.
    pub fn commit(&mut self) -> Result<(), DatapathError> {
        for hook in HOOKS {
            let program = self
                .ebpf
                .program_mut(hook.name)
                .ok_or_else(|| missing_program(hook.name))?;
            let path = self.pins.program(hook.name);
            let fd = program.fd().map_err(|error| refused(hook.name, error))?;
            pin_program(fd.as_fd(), &path)?;
            attach(hook, fd.as_fd(), &self.cgroup, &self.pins)?;
        }
        for spec in MAPS.iter().filter(|spec| self.fresh.contains(spec.name)) {
            pins::put_in_force(&self.pins.map(spec))?;
        }
        self.fresh.clear();
        let keep: Vec<PathBuf> = MAPS.iter().map(|spec| self.pins.map(spec)).collect();
        for other in self.pins.other_maps(&keep) {
            pins::remove(&other)?;
        }
        Ok(())
    }

    /// The programs, as the commands show them.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramView> {
        HOOKS
            .iter()
            .map(|hook| {
                let info = self
                    .ebpf
                    .program(hook.name)
                    .and_then(|program| program.info().ok());
                ProgramView {
                    name: hook.name.to_owned(),
                    attached: is_attached(*hook, &self.cgroup, &self.pins),
                    pinned: self.pins.program(hook.name).exists(),
                    run_count: info.as_ref().map_or(0, |info| info.run_count()),
                    run_time_ns: info.as_ref().map_or(0, |info| {
                        u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX)
                    }),
                }
            })
            .collect()
    }
}

/// The maps that have to be new: flow maps and counters each for itself, the derived ones all together, since they
/// refer to each other.
fn fresh_maps(pins: &Pins, sizes: &Sizes) -> Result<BTreeSet<&'static str>, DatapathError> {
    let mut fresh = BTreeSet::new();
    for spec in &MAPS {
        match pins.find(spec, sizes.entries(spec))? {
            Found::Absent => {
                fresh.insert(spec.name);
            }
            Found::Fits(info, _) => {
                let wanted = sizes.entries(spec);
                if info.max_entries != wanted {
                    tracing::warn!(
                        map = spec.name,
                        entries = info.max_entries,
                        wanted,
                        "the map keeps its size, since it holds what live sockets need; `cleanup` makes room for another"
                    );
                }
            }
            Found::Differs(difference) => {
                tracing::warn!(
                    map = spec.name,
                    difference,
                    "the pinned map is not used: a new one takes its place"
                );
                fresh.insert(spec.name);
            }
        }
    }
    let derived = MAPS.iter().filter(|spec| spec.kind == MapKind::Derived);
    if derived.clone().any(|spec| fresh.contains(spec.name)) {
        fresh.extend(derived.map(|spec| spec.name));
    }
    Ok(fresh)
}

fn path_of(pins: &Pins, spec: &MapSpec, fresh: &BTreeSet<&str>) -> PathBuf {
    let path = pins.map(spec);
    if fresh.contains(spec.name) {
        pins::fresh(&path)
    } else {
        path
    }
}

/// Loads object and programs. A kernel before 6.1 has no bpf_set_retval in these hooks and refuses the programs that
/// call it; then a refused connection sees EPERM.
fn load(pins: &Pins, sizes: &Sizes, fresh: &BTreeSet<&'static str>) -> Result<Ebpf, DatapathError> {
    match load_with(pins, sizes, fresh, 1) {
        Err(DatapathError::Program { name, source }) => {
            tracing::debug!(name, %source, "loading again without bpf_set_retval");
            let loaded = load_with(pins, sizes, fresh, 0)?;
            tracing::warn!(
                "this kernel cannot tell a refused socket why: it sees EPERM instead of ECONNREFUSED"
            );
            Ok(loaded)
        }
        other => other,
    }
}

fn load_with(
    pins: &Pins,
    sizes: &Sizes,
    fresh: &BTreeSet<&'static str>,
    retval: u32,
) -> Result<Ebpf, DatapathError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("HAS_SET_RETVAL", &retval, true);
    for spec in &MAPS {
        loader.map_max_entries(spec.name, sizes.entries(spec));
        loader.map_pin_path(spec.name, path_of(pins, spec, fresh));
    }
    let mut ebpf = loader.load(object::BYTES)?;
    for hook in HOOKS {
        let program = ebpf
            .program_mut(hook.name)
            .ok_or_else(|| missing_program(hook.name))?;
        load_program(program).map_err(|error| refused(hook.name, error))?;
    }
    Ok(ebpf)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "aya knows thirty kinds of programs, the object has two"
)]
fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn pin_program(program: std::os::fd::BorrowedFd<'_>, path: &Path) -> Result<(), DatapathError> {
    let failed = |source| DatapathError::Pin {
        action: "pin the program",
        path: path.to_owned(),
        source,
    };
    pins::remove(&pins::fresh(path))?;
    super::sys::object_pin(program, &pins::fresh(path)).map_err(failed)?;
    pins::put_in_force(path)
}

fn missing_program(name: &str) -> DatapathError {
    DatapathError::Object {
        what: format!("program {name}"),
    }
}

fn refused(name: &'static str, source: ProgramError) -> DatapathError {
    DatapathError::Program {
        name,
        source: Box::new(source),
    }
}
