//! An eBPF object: its maps made, its programs relocated and loaded, and what the verifier said of each.

use std::{
    collections::BTreeMap,
    ffi::CString,
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail};
use aya_obj::{
    Map, ProgramSection,
    generated::{bpf_attach_type, bpf_prog_type},
};

use crate::sys::{self, MapAttributes, ProgramKind};

/// Linux 6.1's bpf_set_retval and 5.15's bpf_get_netns_cookie at sockops are behind these statics of the object.
const SWITCHES: [&str; 2] = ["HAS_SET_RETVAL", "HAS_SOCK_OPS_NETNS"];

/// Of a kernel with 250 ticks a second, in 2^34 parts of a second.
const JIFFY: u32 = 68_719_477;

/// A program in the kernel.
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) fd: OwnedFd,
    pub(crate) kind: ProgramKind,
    /// Instructions that the verifier walked, over all paths.
    pub(crate) instructions: u64,
    /// Bytes of stack of each function, the hook first.
    pub(crate) stack: String,
}

/// Everything that was loaded, and what was not.
pub(crate) struct Loaded {
    pub(crate) maps: BTreeMap<String, OwnedFd>,
    pub(crate) programs: Vec<Program>,
    /// Name and verifier log of each program that the kernel refuses.
    pub(crate) refusals: Vec<(String, String)>,
}

/// A parsed object.
pub(crate) struct Object(aya_obj::Object);

impl Object {
    /// Parses an object and sets its switches.
    pub(crate) fn open(data: &[u8], switch: u32) -> Result<Self> {
        let mut object = aya_obj::Object::parse(data).context("this is no eBPF object")?;
        let value = switch.to_ne_bytes();
        let switches = SWITCHES.map(|name| (name, (&value[..], false)));
        object
            .patch_map_data(switches.into())
            .context("cannot set the object's switches")?;
        // What only some nodes have in force counts too.
        let (on, jiffy) = (1_u32.to_ne_bytes(), JIFFY.to_ne_bytes());
        object
            .patch_map_data(
                [
                    ("HAS_FOREIGN", (&on[..], true)),
                    ("JIFFY", (&jiffy[..], true)),
                ]
                .into(),
            )
            .context("cannot set the object's switches")?;
        Ok(Self(object))
    }

    /// Makes the maps and loads the programs.
    pub(crate) fn load(mut self) -> Result<Loaded> {
        let maps = self.make_maps()?;
        let sections = self
            .0
            .functions
            .keys()
            .map(|(section, _)| *section)
            .collect();
        let named = self.0.maps.clone();
        let relocation = named
            .iter()
            .filter_map(|(name, map)| Some((name.as_str(), maps.get(name)?.as_raw_fd(), map)));
        self.0.relocate_maps(relocation, &sections)?;
        self.0.relocate_calls(&sections)?;
        let mut loaded = Loaded {
            maps,
            programs: Vec::new(),
            refusals: Vec::new(),
        };
        let programs: BTreeMap<_, _> = self.0.programs.iter().collect();
        for (name, program) in programs {
            self.load_program(name, program, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn make_maps(&self) -> Result<BTreeMap<String, OwnedFd>> {
        let maps: BTreeMap<_, _> = self.0.maps.iter().collect();
        maps.into_iter()
            .map(|(name, map)| {
                let fd = make_map(map).with_context(|| format!("cannot make map {name}"))?;
                Ok((name.clone(), fd))
            })
            .collect()
    }

    fn load_program(
        &self,
        name: &str,
        program: &aya_obj::Program,
        loaded: &mut Loaded,
    ) -> Result<()> {
        let function = self.0.functions.get(&program.function_key());
        let function = function.with_context(|| format!("program {name} has no instructions"))?;
        let kind = kind(&program.section)
            .with_context(|| format!("program {name} is of a kind not served here"))?;
        let license: &CString = &program.license;
        let load = |level| sys::program_load(kind, &function.instructions, license, level);
        let (result, log) = load(sys::LOG_STATS);
        match result {
            Ok(fd) => {
                let (instructions, stack) = figures(&log).with_context(|| {
                    format!("no figures in the verifier's log of {name}: {log}")
                })?;
                loaded.programs.push(Program {
                    name: name.to_owned(),
                    fd,
                    kind,
                    instructions,
                    stack,
                });
            }
            Err(error) => {
                let (_, log) = load(sys::LOG_FAILURE);
                loaded
                    .refusals
                    .push((name.to_owned(), format!("{log}\n{error}")));
            }
        }
        Ok(())
    }
}

fn make_map(map: &Map) -> Result<OwnedFd> {
    let fd = sys::map_create(&MapAttributes {
        map_type: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
    })?;
    if !map.data().is_empty() {
        // A section of statics: one value, constant from here on.
        sys::map_update(&fd, &0_u32.to_ne_bytes(), map.data())?;
        sys::map_freeze(&fd)?;
    }
    Ok(fd)
}

fn kind(section: &ProgramSection) -> Result<ProgramKind> {
    let (program_type, attach_type) =
        if let ProgramSection::CgroupSockAddr { attach_type } = section {
            (
                bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
                bpf_attach_type::from(*attach_type) as u32,
            )
        } else if let ProgramSection::CgroupSock { attach_type } = section {
            (
                bpf_prog_type::BPF_PROG_TYPE_CGROUP_SOCK,
                bpf_attach_type::from(*attach_type) as u32,
            )
        } else if let ProgramSection::SockOps = section {
            (
                bpf_prog_type::BPF_PROG_TYPE_SOCK_OPS,
                bpf_attach_type::BPF_CGROUP_SOCK_OPS as u32,
            )
        } else if let ProgramSection::SchedClassifier = section {
            (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0)
        } else {
            bail!("section {section:?}");
        };
    Ok(ProgramKind {
        program_type: program_type as u32,
        attach_type,
    })
}

/// Instructions and stack, from the last lines of a log such as `stack depth 64+16` and `processed 412 insns (...)`.
fn figures(log: &str) -> Option<(u64, String)> {
    let after = |label: &str| log.lines().rev().find_map(|line| line.strip_prefix(label));
    let instructions = after("processed ")?.split_once(' ')?.0.parse().ok()?;
    let stack = after("stack depth ")?.split_whitespace().next()?;
    Some((instructions, stack.to_owned()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_read_from_a_log() {
        let log = "verification time 523 usec\nstack depth 64+16\nprocessed 412 insns (limit 1000000) max_states";
        assert_eq!(super::figures(log), Some((412, "64+16".to_owned())));
        assert_eq!(super::figures("nothing"), None);
    }
}
