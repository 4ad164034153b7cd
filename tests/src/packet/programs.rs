//! The object in the kernel: programs loaded, stages filled, maps open, nothing attached. A packet goes through a
//! program by BPF_PROG_TEST_RUN.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun,
    maps::ProgramArray,
    programs::{Program, ProgramError, SchedClassifier},
};
use mesh_common::MAPS;
use mesh_ebpf::{LinkHeader, PacketHook, PacketStage};

use super::small::jiffies;

/// Where in `stages` the programs of egress hooks begin, as the object has it.
const EGRESS: u32 = 16;

/// Lines of the spill.
pub(super) const SPILL: u32 = 4;

/// More than a packet may grow by.
const ROOM: usize = 256;

/// The programs of the packet hooks.
pub struct PacketPrograms {
    pub(super) object: Ebpf,
    pub(super) seed: u32,
    /// Of `flows`.
    pub(super) flow_lines: u32,
    /// Kept, or the kernel empties it.
    _stages: ProgramArray<aya::maps::MapData>,
}

/// What became of a packet in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned.
    pub code: i32,
    /// The packet after it.
    pub bytes: Vec<u8>,
    /// How long it took.
    pub duration: Duration,
}

impl std::fmt::Debug for PacketPrograms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketPrograms").finish_non_exhaustive()
    }
}

impl PacketPrograms {
    /// Loads the object's packet programs; flows choose their backends by `seed`, and have so many lines.
    ///
    /// # Errors
    /// If the object is not this build's, or the kernel refuses it.
    pub fn load(object: &[u8], seed: u32, flow_lines: u32) -> Result<Self> {
        Self::load_over(object, seed, flow_lines, None)
    }

    /// Loads it twice, over one table of flows. All else each has for itself: what the one chooses from may be what the other's
    /// was a moment ago.
    ///
    /// # Errors
    /// As `load`; or there is no file system for pins.
    pub fn load_two(object: &[u8], seed: u32, flow_lines: u32) -> Result<[Self; 2]> {
        let pin = Pin::new()?;
        let load = || Self::load_over(object, seed, flow_lines, Some(&pin.0));
        Ok([load()?, load()?])
    }

    /// With the flows that are pinned there, or will be then.
    fn load_over(object: &[u8], seed: u32, flow_lines: u32, flows: Option<&Path>) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        for spec in &MAPS {
            let entries = match spec.name {
                "flows" => flow_lines + SPILL,
                _ => spec.default_entries,
            };
            loader.map_max_entries(spec.name, entries);
        }
        if let Some(pin) = flows {
            loader.map_pin_path("flows", pin);
        }
        loader.override_global("FLOW_LINES", &flow_lines, true);
        loader.override_global("SPILL_LINES", &SPILL, true);
        let (set_retval, coarse_clock) = (0_u32, 1_u32);
        loader.override_global("HAS_COARSE_CLOCK", &coarse_clock, true);
        let jiffies = jiffies()?;
        loader.override_global("FIRST_JIFFY", &jiffies.first, true);
        loader.override_global("JIFFY", &jiffies.part, true);
        loader.override_global("HAS_SET_RETVAL", &set_retval, false);
        loader.override_global("SEED", &seed, true);
        // Packets follow each other faster than any limit, and the two clocks are not one.
        loader.override_global("ICMP_INTERVAL", &0_u32, true);
        let mut object = loader.load(object).context("the eBPF object")?;
        let stages = object.take_map("stages").context("no map `stages`")?;
        let mut stages = ProgramArray::try_from(stages)?;
        for (prefix, first) in [("ingress_", 0), ("egress_", EGRESS)] {
            for stage in PacketStage::ALL {
                let name = format!("{prefix}{}", stage.name());
                if object.program(&name).is_some() {
                    let program = load(&mut object, &name)?;
                    stages.set(first + stage as u32, program.fd()?, 0)?;
                }
            }
        }
        // Pods' programs are for frames alone.
        let links = [LinkHeader::Ethernet, LinkHeader::None].into_iter();
        let names = links.flat_map(|link| PacketHook::ALL.map(|hook| hook.program(link)));
        for name in names.collect::<BTreeSet<_>>() {
            load(&mut object, name)?;
        }
        Ok(Self {
            object,
            seed,
            flow_lines,
            _stages: stages,
        })
    }

    /// A packet through a hook's program, on the loopback interface of this thread's network namespace. None for what
    /// the kernel does not take for a packet.
    ///
    /// # Errors
    /// If the kernel refuses for another reason.
    pub fn run(&self, hook: PacketHook, frame: &[u8]) -> Result<Option<Ran>> {
        self.run_at(hook, LinkHeader::Ethernet, frame)
    }

    /// The same where packets begin with this. Without a link header the kernel must find in bytes 12 and 13 what the
    /// packet is all the same, since it takes it for a frame.
    ///
    /// # Errors
    /// If the kernel refuses for another reason.
    pub fn run_at(&self, hook: PacketHook, link: LinkHeader, packet: &[u8]) -> Result<Option<Ran>> {
        let name = hook.program(link);
        let program = self.object.program(name);
        let program: &SchedClassifier = program
            .with_context(|| format!("no program {name}"))?
            .try_into()?;
        run(program, packet)
    }
}

/// Where a map is pinned as long as another load may still ask for it.
struct Pin(PathBuf);

impl Pin {
    fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = PathBuf::from(format!("/sys/fs/bpf/mesh-packets-{process}-{count}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            Ok(()) | Err(_) => Ok(Self(path)),
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // It is not there where the first load has failed.
        fs::remove_file(&self.0).ok();
    }
}

/// A packet through a program.
pub(super) fn run(program: &SchedClassifier, frame: &[u8]) -> Result<Option<Ran>> {
    let mut bytes = vec![0; frame.len() + ROOM];
    let options = aya::TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut bytes),
        ..Default::default()
    };
    let ran = match program.test_run(options) {
        Ok(ran) => ran,
        Err(ProgramError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::InvalidInput =>
        {
            return Ok(None);
        }
        Err(error) => bail!("BPF_PROG_TEST_RUN with {} bytes: {error}", frame.len()),
    };
    bytes.truncate(ran.data_size_out as usize);
    Ok(Some(Ran {
        code: ran.return_value.cast_signed(),
        bytes,
        duration: ran.duration,
    }))
}

/// Loads a program of an object.
pub(super) fn load<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a SchedClassifier> {
    let program: Option<&mut Program> = object.program_mut(name);
    let program: &mut SchedClassifier = program
        .with_context(|| format!("no program {name}"))?
        .try_into()?;
    program.load().with_context(|| format!("program {name}"))?;
    Ok(program)
}
