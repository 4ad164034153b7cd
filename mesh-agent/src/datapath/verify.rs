//! Every program of the object through the kernel's verifier, several at a time: one after the other they take the better
//! part of a second, in which a restarted agent does nothing else. In comes the object with its maps, out go the loaded
//! programs by name.

use std::{
    collections::BTreeMap,
    num::NonZero,
    os::fd::{AsFd, OwnedFd},
    sync::Mutex,
    thread,
};

use aya::{
    Ebpf,
    programs::{Program, ProgramError, ProgramFd, SchedClassifier},
};

use super::{
    DatapathError,
    load::{absent, failed},
};

/// Those that take longest come first, or the others would wait for them in the end.
const SLOW: [&str; 2] = ["ingress_open", "egress_source"];

/// More at a time would need more of the kernel's memory than they save time.
const MOST_THREADS: usize = 4;

type Job<'a> = (&'a str, &'a mut Program);

/// The loaded programs, by name.
pub(super) struct Verified(BTreeMap<String, OwnedFd>);

impl Verified {
    /// The program of a name.
    pub(super) fn take(&mut self, name: &str) -> Result<OwnedFd, DatapathError> {
        self.0
            .remove(name)
            .ok_or_else(|| absent(format!("the program {name}")))
    }
}

/// Loads all of them; the first that is refused is the error.
pub(super) fn verify(object: &mut Ebpf) -> Result<Verified, DatapathError> {
    let mut jobs: Vec<Job<'_>> = object.programs_mut().collect();
    // The last one is taken first.
    jobs.sort_by_key(|(name, _)| SLOW.contains(name));
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = Mutex::new(jobs);
    let outcomes = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(MOST_THREADS))
            .map(|_| scope.spawn(|| load_while_there_are(&jobs)))
            .collect();
        let outcomes = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(broken_down("a thread that loads programs")))
        });
        outcomes.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Verified(outcomes.into_iter().flatten().collect()))
}

fn broken_down(what: &str) -> DatapathError {
    DatapathError::Load {
        object: what.to_owned(),
        reason: "it broke down: a defect, please report it".to_owned(),
    }
}

fn load_while_there_are(
    jobs: &Mutex<Vec<Job<'_>>>,
) -> Result<Vec<(String, OwnedFd)>, DatapathError> {
    let mut loaded = Vec::new();
    loop {
        let job = jobs
            .lock()
            .map_err(|_| broken_down("the list of programs"))?
            .pop();
        let Some((name, program)) = job else {
            return Ok(loaded);
        };
        let fd = load(program).map_err(failed(format!("the program {name}")))?;
        loaded.push((name.to_owned(), fd));
    }
}

fn load(program: &mut Program) -> Result<OwnedFd, ProgramError> {
    let clone = |fd: &ProgramFd| fd.as_fd().try_clone_to_owned().map_err(Into::into);
    if let Program::CgroupSock(program) = program {
        program.load()?;
        return clone(program.fd()?);
    }
    if let Program::SockOps(program) = program {
        program.load()?;
        return clone(program.fd()?);
    }
    if let Program::CgroupSockAddr(program) = program {
        program.load()?;
        return clone(program.fd()?);
    }
    let program: &mut SchedClassifier = program.try_into()?;
    program.load()?;
    clone(program.fd()?)
}
