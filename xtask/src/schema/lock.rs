//! The contents of schema.lock as plain data: parse, render, and what may not change from one to the next.

use std::{collections::BTreeMap, fmt::Write};

use mesh_common::{Counter, Layout, MAPS, MapSpec, Reason};

/// A map's version and everything that must not change without it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    version: u32,
    layout: String,
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lock {
    fingerprint: String,
    maps: BTreeMap<String, Map>,
    /// `reason 0` or `counter 16` -> its word.
    words: BTreeMap<String, String>,
}

impl Lock {
    /// What the code says now.
    pub(super) fn of_the_code() -> Self {
        let map = |spec: &MapSpec| {
            let map = Map {
                version: spec.version,
                layout: layout(spec),
            };
            (spec.name.to_owned(), map)
        };
        let reasons = Reason::ALL.map(|reason| (format!("reason {}", reason as u8), reason.name()));
        let counters =
            Counter::ALL.map(|counter| (format!("counter {}", counter.index()), counter.name()));
        let words = reasons
            .into_iter()
            .chain(counters)
            .map(|(number, word)| (number, word.to_owned()));
        Self {
            fingerprint: format!("{:016x}", mesh_common::fingerprint()),
            maps: MAPS.iter().map(map).collect(),
            words: words.collect(),
        }
    }

    /// What in `self`, the new, may not follow upon `old`: one line each.
    pub(super) fn breaks(&self, old: &Self) -> Vec<String> {
        let maps = self
            .maps
            .iter()
            .filter_map(|(name, map)| broken_map(name, map, old.maps.get(name)?));
        let words = old.words.iter().filter_map(|(number, word)| {
            let now = self.words.get(number).filter(|now| *now != word)?;
            Some(format!("{number} was `{word}` and is now `{now}`: numbers are pinned, give the new one its own"))
        });
        maps.chain(words).collect()
    }

    /// The file's text.
    pub(super) fn render(&self) -> String {
        let mut text = format!(
            "fingerprint {}\n\
             # What kernel and agent agree on, written by `cargo xtask schema`. Layouts: field offset size, in bytes.\n",
            self.fingerprint
        );
        for (name, map) in &self.maps {
            write!(text, "\nmap {name} version {}\n{}", map.version, map.layout).ok();
        }
        text.push('\n');
        for (number, word) in &self.words {
            writeln!(text, "{number} {word}").ok();
        }
        text
    }

    /// From the file's text. A line that is none of ours is part of nothing, and then the file is out of date.
    pub(super) fn parse(text: &str) -> Self {
        let mut lock = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                ["fingerprint", value] => lock.fingerprint = value.to_owned(),
                ["map", name, "version", version] => {
                    current = name.to_owned();
                    let version = version.parse().unwrap_or(0);
                    lock.maps.insert(
                        current.clone(),
                        Map {
                            version,
                            layout: String::new(),
                        },
                    );
                }
                [kind @ ("reason" | "counter"), number, word] => {
                    lock.words
                        .insert(format!("{kind} {number}"), word.to_owned());
                }
                _ if line.starts_with(' ') => {
                    if let Some(map) = lock.maps.get_mut(&current) {
                        map.layout.push_str(line);
                        map.layout.push('\n');
                    }
                }
                _ => {}
            }
        }
        lock
    }
}

fn broken_map(name: &str, now: &Map, old: &Map) -> Option<String> {
    if now.layout != old.layout && now.version <= old.version {
        return Some(format!(
            "the layout of map `{name}` changed and its version is still {}: raise it in mesh-common/src/maps.rs, \
             or agents would read pins of the other layout",
            now.version
        ));
    }
    (now.version < old.version).then(|| {
        format!(
            "the version of map `{name}` went back from {} to {}: pins of both exist",
            old.version, now.version
        )
    })
}

fn layout(map: &MapSpec) -> String {
    let mut text = format!("  {:?} {:?}\n", map.kind, map.shape);
    for (role, layout) in [("key", &map.key), ("value", &map.value)] {
        text.push_str(&typed(role, layout));
    }
    text
}

fn typed(role: &str, layout: &Layout) -> String {
    let mut text = format!(
        "  {role} {} size {} align {}\n",
        layout.name, layout.size, layout.align
    );
    for (name, offset, size) in layout.fields {
        writeln!(text, "    {name} {offset} {size}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(change: impl FnOnce(&mut Map)) -> Lock {
        let mut lock = Lock::of_the_code();
        change(lock.maps.get_mut("backends").unwrap());
        lock
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let lock = Lock::of_the_code();
        assert_eq!(Lock::parse(&lock.render()), lock);
    }

    #[test]
    fn a_layout_may_not_change_under_its_version() {
        let now = changed(|map| map.layout.push_str("    extra 24 8\n"));
        assert_eq!(now.breaks(&Lock::of_the_code()).len(), 1);
    }

    #[test]
    fn a_layout_may_change_with_its_version() {
        let now = changed(|map| {
            map.layout.push_str("    extra 24 8\n");
            map.version += 1;
        });
        assert_eq!(now.breaks(&Lock::of_the_code()), [""; 0]);
    }

    #[test]
    fn a_version_may_not_go_back() {
        let old = changed(|map| map.version += 1);
        assert_eq!(Lock::of_the_code().breaks(&old).len(), 1);
    }

    #[test]
    fn a_number_may_not_get_another_word() {
        let mut now = Lock::of_the_code();
        now.words
            .insert("reason 0".to_owned(), "another".to_owned());
        assert_eq!(now.breaks(&Lock::of_the_code()).len(), 1);
    }

    #[test]
    fn new_maps_and_words_are_welcome() {
        let mut old = Lock::of_the_code();
        old.maps.remove("backends");
        old.words.remove("reason 1");
        assert_eq!(Lock::of_the_code().breaks(&old), [""; 0]);
    }
}
