//! What became of the interfaces between two looks. In come the new ones and which indexes were deleted in between; out
//! go the new ones with the numbers of pods that stayed, and what differs, in order: what is gone first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::classify::{Device, Interfaces, PodLink, Unserved};

/// The part that an interface plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The host's side of a local pod.
    Pod,
    /// A device of the node.
    Device,
}

impl Place {
    /// The word for it in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Device => "device",
        }
    }
}

/// One thing that is not as before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// An interface is not there any more, or plays no part any more.
    #[error("{} {name} ({index}) is gone", place.name())]
    Gone {
        /// Its part.
        place: Place,
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// An interface is new, or stands where another stood.
    #[error("{} {name} ({index}) has come", place.name())]
    Came {
        /// Its part.
        place: Place,
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// An interface has another name.
    #[error("{} {from} ({index}) is named {to} now", place.name())]
    Renamed {
        /// Its part.
        place: Place,
        /// Its index.
        index: u32,
        /// The name before.
        from: String,
        /// The name now.
        to: String,
    },
    /// A pod or device has other addresses.
    #[error("{} {name} ({index}) has other addresses", place.name())]
    Readdressed {
        /// Its part.
        place: Place,
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// Two pods say they have one address.
    #[error(
        "{address} is the address of both {loser} and {winner}; the newer one, {winner}, gets it"
    )]
    Contested {
        /// The address.
        address: IpAddr,
        /// The newest link's name.
        winner: String,
        /// The older link's name.
        loser: String,
    },
    /// An interface that may matter is not served.
    #[error("the interface {name} is not served: {why}")]
    Unserved {
        /// Its name.
        name: String,
        /// Why.
        why: Unserved,
    },
    /// A device that was named does not exist.
    #[error("--device {0}: there is no such interface; it is served when it comes")]
    UnknownDevice(String),
}

impl Difference {
    /// Whether people should look at it.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Contested { .. } | Self::UnknownDevice(_))
    }
}

/// What was seen last.
#[derive(Debug, Default)]
pub struct Follower {
    before: Interfaces,
    contested: BTreeSet<(IpAddr, String, String)>,
    /// The number that the next new pod gets.
    next: u64,
}

impl Follower {
    /// Takes the place of what was before. `deleted` are indexes of which the kernel told a deletion since: whatever
    /// has one of them now is another interface.
    pub fn follow(
        &mut self,
        mut now: Interfaces,
        deleted: &BTreeSet<u32>,
    ) -> (Interfaces, Vec<Difference>) {
        let before = std::mem::take(&mut self.before);
        self.number(&before, &mut now, deleted);
        let contested = settle(&mut now);
        let stays = |index: u32| {
            let was = before.pods.get(&index).map(|pod| pod.first_seen);
            was == now.pods.get(&index).map(|pod| pod.first_seen)
        };
        let mut differences = Vec::new();
        gone(&before.pods, &now.pods, stays, &mut differences);
        let same_device = |index: u32| !deleted.contains(&index);
        gone(&before.devices, &now.devices, same_device, &mut differences);
        came(&before.pods, &now.pods, stays, &mut differences);
        came(&before.devices, &now.devices, same_device, &mut differences);
        unserved(&before, &now, &mut differences);
        for (address, winner, loser) in contested.difference(&self.contested) {
            differences.push(Difference::Contested {
                address: *address,
                winner: winner.clone(),
                loser: loser.clone(),
            });
        }
        self.contested = contested;
        self.before = now.clone();
        (now, differences)
    }

    fn number(&mut self, before: &Interfaces, now: &mut Interfaces, deleted: &BTreeSet<u32>) {
        for (index, pod) in &mut now.pods {
            let known = before.pods.get(index).filter(|_| !deleted.contains(index));
            pod.first_seen = match known.filter(|known| known.nsid == pod.nsid) {
                Some(known) => known.first_seen,
                None => {
                    self.next += 1;
                    self.next
                }
            };
        }
    }
}

/// What pods and devices have in common.
trait Placed {
    const PLACE: Place;
    fn name(&self) -> &str;
    fn addresses(&self) -> &BTreeSet<IpAddr>;
}

impl Placed for PodLink {
    const PLACE: Place = Place::Pod;
    fn name(&self) -> &str {
        &self.name
    }
    fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }
}

impl Placed for Device {
    const PLACE: Place = Place::Device;
    fn name(&self) -> &str {
        &self.name
    }
    fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }
}

fn gone<T: Placed>(
    before: &BTreeMap<u32, T>,
    now: &BTreeMap<u32, T>,
    stays: impl Fn(u32) -> bool,
    differences: &mut Vec<Difference>,
) {
    for (&index, was) in before {
        if !now.contains_key(&index) || !stays(index) {
            let name = was.name().to_owned();
            let place = T::PLACE;
            differences.push(Difference::Gone { place, index, name });
        }
    }
}

fn came<T: Placed>(
    before: &BTreeMap<u32, T>,
    now: &BTreeMap<u32, T>,
    stays: impl Fn(u32) -> bool,
    differences: &mut Vec<Difference>,
) {
    let place = T::PLACE;
    for (&index, is) in now {
        let name = is.name().to_owned();
        let Some(was) = before.get(&index).filter(|_| stays(index)) else {
            differences.push(Difference::Came { place, index, name });
            continue;
        };
        if was.name() != name {
            let from = was.name().to_owned();
            let to = name.clone();
            differences.push(Difference::Renamed {
                place,
                index,
                from,
                to,
            });
        }
        if was.addresses() != is.addresses() {
            differences.push(Difference::Readdressed { place, index, name });
        }
    }
}

fn unserved(before: &Interfaces, now: &Interfaces, differences: &mut Vec<Difference>) {
    for (name, &why) in &now.others {
        if before.others.get(name) != Some(&why) {
            let name = name.clone();
            differences.push(Difference::Unserved { name, why });
        }
    }
    for name in &now.unknown_devices {
        if !before.unknown_devices.contains(name) {
            differences.push(Difference::UnknownDevice(name.clone()));
        }
    }
}

/// Of two pods with one address the newest keeps it.
fn settle(now: &mut Interfaces) -> BTreeSet<(IpAddr, String, String)> {
    let mut newest: BTreeMap<IpAddr, (u64, String)> = BTreeMap::new();
    for pod in now.pods.values() {
        for &address in &pod.addresses {
            let holder = newest.entry(address).or_default();
            if pod.first_seen > holder.0 {
                *holder = (pod.first_seen, pod.name.clone());
            }
        }
    }
    let mut contested = BTreeSet::new();
    for pod in now.pods.values_mut() {
        let (number, loser) = (pod.first_seen, pod.name.clone());
        pod.addresses.retain(|address| {
            let Some((winner, name)) = newest.get(address) else {
                return true;
            };
            if *winner != number {
                contested.insert((*address, name.clone(), loser.clone()));
            }
            *winner == number
        });
    }
    contested
}

#[cfg(test)]
mod tests;
