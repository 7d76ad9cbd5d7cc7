//! What goes wrong in a run: power, disks, hanging processes, and bits that turn on a disk at rest.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::node::Live;
use super::world::World;
use crate::disk::sim::SimFiles;
use crate::kv::KvError;

/// How often what goes wrong, and what is wrong now. Each run draws its own.
#[derive(Debug)]
pub(crate) struct Faults {
    crashes: u32,
    disk_errors: u32,
    full_disks: u32,
    stalls: u32,
    pub crash_at_start: f64,
    pub rot: f64,
    /// Minutes pass and not seconds: long leases end.
    pub slow_world: bool,
    pub is_calm: bool,
    /// Who applies commands now.
    pub speaker: usize,
    pub starts: usize,
}

impl Faults {
    pub fn draw(rng: &mut StdRng) -> Self {
        let mut some = |most: u32| if rng.random_bool(0.6) { rng.random_range(1..=most) } else { 0 };
        let (crashes, disk_errors, full_disks, stalls) = (some(20), some(6), some(6), some(10));
        let crash_at_start = if rng.random_bool(0.5) { 0.3 } else { 0.0 };
        Self {
            crashes,
            disk_errors,
            full_disks,
            stalls,
            crash_at_start,
            rot: 0.3,
            slow_world: rng.random_bool(0.2),
            is_calm: false,
            speaker: 0,
            starts: 0,
        }
    }

    pub fn calm(&mut self) {
        self.crash_at_start = 0.0;
        self.rot = 0.0;
        self.is_calm = true;
    }
}

impl World {
    /// Sometimes something goes wrong, or a full disk gets space again.
    pub fn fault(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        if self.nodes[node].live.is_none() {
            return;
        }
        let Faults { crashes, disk_errors, full_disks, stalls, .. } = self.faults;
        let roll = self.rng.random_range(0..100);
        let kinds = [crashes, disk_errors, full_disks, stalls, 20];
        let fault = kinds.iter().scan(0, |sum, weight| Some((*sum += weight, *sum).1)).position(|end| roll < end);
        match fault {
            Some(0) if self.rng.random_bool(0.3) => self.crash(node, "between turns"),
            Some(0) => {
                let after = self.rng.random_range(1..60);
                self.nodes[node].files.power_off_after(after);
                self.say(&format!("the power of member {node} goes after {after} changes"));
            }
            Some(1) => {
                self.nodes[node].files.set_broken(true);
                self.say(&format!("the disk of member {node} fails"));
            }
            Some(2) => {
                self.nodes[node].files.set_free(Some(0));
                self.say(&format!("the disk of member {node} is full"));
            }
            Some(3) => {
                let ms = self.forget(node);
                self.nodes[node].stalled_until_ms = self.now.ms + ms;
                self.say(&format!("member {node} hangs for {ms} ms"));
            }
            Some(_) => self.nodes[node].files.set_free(None),
            None => {}
        }
    }
}

fn versions(live: &Live) -> Result<String, KvError> {
    let history = super::clients::finish(live.engine.history(0)).ok_or(KvError::Timeout)??;
    let (revision, compacted) = (history.revision, history.compact_revision);
    Ok(format!("{revision} {compacted} {:?}", history.read()?))
}

/// Turns a bit of a disk at rest and starts a store on it. It must be refused with the place named or be what it was; only the last write of the log,
/// which looks the same when a crash cuts it, may be missing.
pub(crate) fn damage(files: &SimFiles, seed: u64, start: &dyn Fn(&SimFiles) -> Result<Live, KvError>) -> Result<String, String> {
    let open = |files: &SimFiles| start(files).and_then(|live| Ok((live.engine.applied_index(), versions(&live)?)));
    let whole = open(&files.copy()).map_err(|error| format!("a store cannot be started after a crash: {error}"))?;
    let names = files.used();
    let mut rng = StdRng::seed_from_u64(seed);
    let Some(name) = names.get(rng.random_range(0..names.len().max(1))) else { return Ok("nothing to damage".into()) };
    let newest_log = names.iter().filter(|other| other.ends_with(".wal")).max();
    let (at, bit, last_write) = files.edit(name, |data| {
        let last = data.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let (at, bit) = (rng.random_range(0..=last), rng.random_range(0..8));
        let last_write = newest_log == Some(name) && crate::wal::last_frame_start(data).is_some_and(|start| at >= start);
        data[at] ^= 1 << bit;
        (at, bit, last_write)
    });
    let what = format!("bit {bit} of byte {at} of {name} turned");
    match open(files) {
        Ok(found) if found == whole => Ok(format!("{what}: harmless")),
        Ok((applied, _)) if applied < whole.0 && last_write => Ok(format!("{what}: taken for a torn end, as it looks the same")),
        Ok((applied, found)) => Err(format!("{what}, and it is served with {applied} of {} commands: {found} was {}", whole.0, whole.1)),
        // A member knows from its checkpoint, or from what it wrote of commits, that its log was longer.
        Err(KvError::Corrupt(text)) if last_write => Ok(format!("{what}: refused: {text}")),
        Err(KvError::Corrupt(text)) if text.contains(name.as_str()) => Ok(format!("{what}: refused: {text}")),
        Err(error) => Err(format!("{what}: refused without its name: {error}")),
    }
}
