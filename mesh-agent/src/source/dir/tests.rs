//! Real directories: what a reader of the batches knows in the end is what the files say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
};

use super::*;
use crate::model::{Object, ObjectId};

/// Generous: a test that fails may take it, one that passes does not.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own, with a directory `d` for the source.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesh-agent-source-{}-{number}", std::process::id());
        let place = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(place.at("d")).unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A running source and what it told.
struct Reader {
    batches: mpsc::Receiver<Batch>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    objects: BTreeMap<ObjectId, Object>,
    synced: usize,
    removed: usize,
    problems: Vec<String>,
    incomplete: bool,
}

impl Reader {
    fn of(path: &Path) -> Self {
        let opened = DirSource::open(path, decode::Options::default()).unwrap();
        let mut reader = Self::run(opened);
        reader.until("everything is read once", |it| it.synced == Kind::ALL.len());
        reader
    }

    fn run((source, stop): (DirSource, Stop)) -> Self {
        let (sender, batches) = mpsc::channel();
        let run = move || {
            source.run(|batch| match sender.send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            });
        };
        Self {
            batches,
            stop,
            thread: Some(std::thread::spawn(run)),
            objects: BTreeMap::new(),
            synced: 0,
            removed: 0,
            problems: Vec::new(),
            incomplete: false,
        }
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            match self
                .batches
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(batch) => self.take(batch),
                Err(RecvTimeoutError::Timeout) => panic!(
                    "{what}: not seen; {:?} {:?}",
                    self.objects.keys(),
                    self.problems
                ),
                Err(RecvTimeoutError::Disconnected) => panic!("{what}: the source ended"),
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        for change in batch.changes {
            match change {
                Change::Put(object) => drop(self.objects.insert(object.id(), object)),
                Change::Remove(id) => {
                    assert!(self.objects.remove(&id).is_some());
                    self.removed += 1;
                }
                Change::Synced(_) => self.synced += 1,
                Change::Incomplete(incomplete) => self.incomplete = incomplete,
                Change::NodeAddresses(_) => panic!("a directory knows no interfaces"),
            }
        }
        if let Some(problems) = batch.problems {
            self.problems = problems.iter().map(ToString::to_string).collect();
        }
    }

    fn has(&self, names: &[&str]) -> bool {
        let held: BTreeSet<String> = self
            .objects
            .values()
            .map(|object| match object {
                Object::Node(node) => {
                    let addresses: Vec<String> =
                        node.addresses.iter().map(ToString::to_string).collect();
                    format!("{}={}", node.name, addresses.join(","))
                }
                Object::EndpointSlice(_)
                | Object::Namespace(_)
                | Object::Pod(_)
                | Object::Service(_) => object.id().to_string(),
            })
            .collect();
        held == names.iter().map(ToString::to_string).collect()
    }

    fn until_has(&mut self, names: &[&str]) {
        self.until(&format!("{names:?}"), |it| it.has(names));
    }

    fn until_problem(&mut self, text: &str) {
        self.until(text, |it| it.problems.iter().any(|line| line == text));
    }

    fn until_problem_with(&mut self, start: &str) {
        self.until(start, |it| {
            it.problems.iter().any(|line| line.starts_with(start))
        });
    }

    fn until_well(&mut self) {
        self.until("no problem", |it| it.problems.is_empty());
    }

    /// What is to be seen by now would be seen before this is.
    fn pass(&mut self, place: &Place) {
        place.write("d/zz.json", &node("marker", 1));
        let marker = "marker=10.0.0.1";
        let seen = |it: &Self| {
            it.objects
                .keys()
                .any(|id| id.name.name.as_ref() == "marker")
        };
        self.until(marker, seen);
        fs::remove_file(place.at("d/zz.json")).unwrap();
        self.until("the marker is gone", |it| !seen(it));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

fn node(name: &str, address: u8) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}},"status":{{"addresses":[{{"type":"InternalIP","address":"10.0.0.{address}"}}]}}}}"#
    )
}

#[test]
fn a_missing_directory_is_told_with_what_to_do() {
    let place = Place::new();
    let missing = place.at("missing");
    let error = DirSource::open(&missing, decode::Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("missing") && text.contains("Make it"),
        "{text}"
    );
}

#[test]
fn a_directory_that_is_not_there_is_not_an_empty_one() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let opened = DirSource::open(&place.at("d"), decode::Options::default()).unwrap();
    fs::rename(place.at("d"), place.at("aside")).unwrap();
    let mut reader = Reader::run(opened);
    reader.until("the directory is missed", |it| !it.problems.is_empty());
    assert_eq!(reader.synced, 0);
    fs::rename(place.at("aside"), place.at("d")).unwrap();
    reader.until("it is read", |it| it.synced == Kind::ALL.len());
    assert!(reader.has(&["a=10.0.0.1"]));
    reader.until_well();
}

#[test]
fn files_come_change_and_go() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    place.write("d/.hidden.json", &node("hidden", 1));
    place.write("d/notes.txt", "words");
    let mut reader = Reader::of(&place.at("d"));
    assert!(reader.has(&["a=10.0.0.1"]) && reader.problems.is_empty());
    place.write("d/b.yml", &node("b", 2));
    reader.until_has(&["a=10.0.0.1", "b=10.0.0.2"]);
    place.write("d/a.json", &node("a", 3));
    reader.until_has(&["a=10.0.0.3", "b=10.0.0.2"]);
    fs::remove_file(place.at("d/b.yml")).unwrap();
    reader.until_has(&["a=10.0.0.3"]);
}

#[test]
fn editors_that_rename_remove_nothing() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let mut reader = Reader::of(&place.at("d"));
    for round in 2..30 {
        // The old file aside, the new one in its place; then a file moved over it.
        fs::rename(place.at("d/a.json"), place.at("d/a.json~")).unwrap();
        place.write("d/a.json", &node("a", round));
        place.write("d/.a.json.new", &node("a", round + 100));
        fs::rename(place.at("d/.a.json.new"), place.at("d/a.json")).unwrap();
    }
    reader.until_has(&["a=10.0.0.129"]);
    // The gaps above are the test's own, and it may have been slow.
    reader.removed = 0;
    fs::rename(place.at("d/a.json"), place.at("d/b.json")).unwrap();
    place.write("d/c.json", &node("c", 1));
    reader.until_has(&["a=10.0.0.129", "c=10.0.0.1"]);
    reader.pass(&place);
    assert_eq!(reader.removed, 1, "only the marker");
}

#[test]
fn what_cannot_be_read_leaves_what_was_read() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let mut reader = Reader::of(&place.at("d"));
    let empty = "a.json: it is empty; write it; what it said before stays";
    place.write("d/a.json", "");
    reader.until_problem(empty);
    place.write("d/a.json", "{\n]");
    reader.until_problem_with("a.json:2: no JSON");
    let file = fs::File::create(place.at("d/a.json")).unwrap();
    file.set_len(50 << 20).unwrap();
    drop(file);
    reader.until_problem(
        "a.json: its 50 MiB are more than 32 MiB; split it; what it said before stays",
    );
    reader.pass(&place);
    assert!(reader.has(&["a=10.0.0.1"]) && reader.removed == 1);
    place.write("d/a.json", &node("a", 2));
    reader.until_well();
    reader.until_has(&["a=10.0.0.2"]);
}

#[test]
fn what_never_could_be_read_is_told_as_missing() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    place.write("d/b.json", "{");
    let mut reader = Reader::of(&place.at("d"));
    assert!(reader.incomplete);
    place.write("d/b.json", &node("b", 2));
    reader.until("b", |it| !it.incomplete);
    // What breaks later has a last good version.
    place.write("d/b.json", "{");
    reader.until_problem_with("b.json:1: no JSON");
    assert!(!reader.incomplete);
    let service = |port: u32| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"c","namespace":"d"}},"spec":{{"clusterIP":"10.96.0.1","ports":[{{"port":{port}}}]}}}}"#
        )
    };
    place.write("d/c.json", &service(99_999));
    reader.until("c is bad", |it| it.incomplete);
    place.write("d/c.json", &service(80));
    reader.until("c is good", |it| !it.incomplete);
    place.write("d/c.json", &service(99_999));
    reader.until_problem_with("c.json");
    assert!(!reader.incomplete);
    assert_eq!((reader.objects.len(), reader.removed), (3, 0));
}

#[test]
fn what_is_no_file_is_told() {
    let place = Place::new();
    nix::unistd::mkfifo(&place.at("d/pipe.yaml"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    symlink("nowhere", place.at("d/link.yaml")).unwrap();
    fs::create_dir(place.at("d/directory.yaml")).unwrap();
    let mut reader = Reader::of(&place.at("d"));
    assert_eq!(
        reader.problems,
        [
            "directory.yaml: it is no file; make it a file, or give it another ending",
            "link.yaml: it is a link that leads nowhere; mend or remove the link; what it said before stays",
            "pipe.yaml: it is no file; make it a file, or give it another ending",
        ]
    );
    place.write("d/nowhere", &node("a", 1));
    reader.until_has(&["a=10.0.0.1"]);
    fs::remove_file(place.at("d/pipe.yaml")).unwrap();
    fs::remove_dir(place.at("d/directory.yaml")).unwrap();
    reader.until_well();
}

#[test]
fn files_that_vanish_harm_nobody() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let mut reader = Reader::of(&place.at("d"));
    for round in 0..300 {
        let name = format!("d/f{}.json", round % 7);
        place.write(&name, &node("f", 1)[..40]);
        fs::remove_file(place.at(&name)).unwrap();
    }
    reader.pass(&place);
    reader.until_well();
    assert!(reader.has(&["a=10.0.0.1"]));
}

/// As the kubelet does it.
fn swap(place: &Place, version: &str, files: &[(&str, String)]) {
    fs::create_dir(place.at(&format!("d/..{version}"))).unwrap();
    for (name, text) in files {
        place.write(&format!("d/..{version}/{name}"), text);
    }
    symlink(format!("..{version}"), place.at("d/..data_tmp")).unwrap();
    fs::rename(place.at("d/..data_tmp"), place.at("d/..data")).unwrap();
}

#[test]
fn a_config_map_is_swapped_as_a_whole() {
    let place = Place::new();
    let mut reader = Reader::of(&place.at("d"));
    swap(
        &place,
        "1",
        &[("a.json", node("a", 1)), ("b.json", node("b", 1))],
    );
    for name in ["a.json", "b.json"] {
        symlink(format!("..data/{name}"), place.at(&format!("d/{name}"))).unwrap();
    }
    reader.until_has(&["a=10.0.0.1", "b=10.0.0.1"]);
    swap(
        &place,
        "2",
        &[("a.json", node("a", 2)), ("b.json", node("b", 2))],
    );
    fs::remove_dir_all(place.at("d/..1")).unwrap();
    reader.until_has(&["a=10.0.0.2", "b=10.0.0.2"]);
    swap(&place, "3", &[("a.json", node("a", 3))]);
    fs::remove_dir_all(place.at("d/..2")).unwrap();
    fs::remove_file(place.at("d/b.json")).unwrap();
    reader.until_has(&["a=10.0.0.3"]);
    assert_eq!(reader.removed, 1);
}

#[test]
fn links_are_followed_to_where_they_lead() {
    let place = Place::new();
    fs::create_dir(place.at("one")).unwrap();
    fs::create_dir(place.at("two")).unwrap();
    place.write("one/a.json", &node("a", 1));
    place.write("two/a.json", &node("a", 2));
    symlink("one", place.at("current")).unwrap();
    symlink("../current/a.json", place.at("d/a.json")).unwrap();
    let mut reader = Reader::of(&place.at("d"));
    place.write("one/a.json", &node("a", 3));
    reader.until_has(&["a=10.0.0.3"]);
    symlink("two", place.at("next")).unwrap();
    fs::rename(place.at("next"), place.at("current")).unwrap();
    reader.until_has(&["a=10.0.0.2"]);
    place.write("two/a.json", &node("a", 4));
    reader.until_has(&["a=10.0.0.4"]);
}

/// Whoever replaces a directory by an empty one has not filled it yet, or made a mistake.
#[test]
fn a_directory_that_is_replaced_by_an_empty_one_takes_nothing_away() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let mut reader = Reader::of(&place.at("d"));
    fs::rename(place.at("d"), place.at("old")).unwrap();
    fs::create_dir(place.at("d")).unwrap();
    reader.until_problem_with(&place.at("d").display().to_string());
    reader.until("it is told why", |it| {
        it.problems
            .iter()
            .any(|line| line.contains("without manifests"))
    });
    assert!(reader.has(&["a=10.0.0.1"]) && reader.removed == 0);
    place.write("d/b.json", &node("b", 2));
    reader.until_has(&["b=10.0.0.2"]);
    // One that is emptied file by file is meant to be empty.
    fs::remove_file(place.at("d/b.json")).unwrap();
    reader.until_has(&[]);
}

#[test]
fn a_directory_that_is_replaced_is_read_anew() {
    let place = Place::new();
    place.write("d/a.json", &node("a", 1));
    let mut reader = Reader::of(&place.at("d"));
    for round in 2..5 {
        let aside = place.at(&format!("aside{round}"));
        fs::rename(place.at("d"), &aside).unwrap();
        reader.until("the directory is missed", |it| !it.problems.is_empty());
        assert!(reader.has(&[&format!("a=10.0.0.{}", round - 1)]));
        fs::create_dir(place.at("new")).unwrap();
        place.write("new/a.json", &node("a", round));
        fs::rename(place.at("new"), place.at("d")).unwrap();
        reader.until_has(&[&format!("a=10.0.0.{round}")]);
        reader.until_well();
        // The old one is nobody's any more.
        fs::write(aside.join("a.json"), node("a", 100)).unwrap();
        place.write("d/b.json", &node("b", round));
        reader.until("b", |it| it.objects.len() == 2);
        fs::remove_file(place.at("d/b.json")).unwrap();
        reader.until_has(&[&format!("a=10.0.0.{round}")]);
    }
    // Removed and made anew, perhaps with the same inode.
    fs::remove_dir_all(place.at("d")).unwrap();
    fs::create_dir(place.at("d")).unwrap();
    place.write("d/a.json", &node("a", 50));
    reader.until_has(&["a=10.0.0.50"]);
}

#[test]
fn a_path_that_is_a_link_may_lead_elsewhere() {
    let place = Place::new();
    fs::create_dir(place.at("two")).unwrap();
    place.write("d/a.json", &node("a", 1));
    place.write("two/a.json", &node("a", 2));
    symlink("d", place.at("path")).unwrap();
    let mut reader = Reader::of(&place.at("path"));
    symlink("two", place.at("next")).unwrap();
    fs::rename(place.at("next"), place.at("path")).unwrap();
    reader.until_has(&["a=10.0.0.2"]);
    place.write("two/a.json", &node("a", 3));
    reader.until_has(&["a=10.0.0.3"]);
}

#[test]
fn of_an_object_in_two_files_the_first_counts() {
    let place = Place::new();
    place.write("d/b.json", &node("a", 2));
    let mut reader = Reader::of(&place.at("d"));
    place.write("d/a.json", &node("a", 1));
    reader.until_has(&["a=10.0.0.1"]);
    reader
        .until_problem("b.json: Node a: a.json has the object too, and counts; remove one of them");
    fs::remove_file(place.at("d/a.json")).unwrap();
    reader.until_has(&["a=10.0.0.2"]);
    reader.until_well();
    assert_eq!(reader.removed, 0);
}
