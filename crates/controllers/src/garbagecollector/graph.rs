//! Who owns whom (pkg/controller/garbagecollector/graph_builder.go). Pure: takes what the watches report and returns what has to be looked at.
//!
//! Small on purpose: of an object without owners, dependents and deletion finalizers only its uid is kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::meta::v1::{ObjectMeta, OwnerReference};

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// A uid as 128 bits: the number itself when it is a UUID, else a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(u128);

impl Uid {
    pub fn of(text: &str) -> Self {
        let digits: String = text.chars().filter(|&letter| letter != '-').collect();
        if digits.len() == 32
            && let Ok(number) = u128::from_str_radix(&digits, 16)
        {
            return Self(number);
        }
        Self(text.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash: u128, byte| {
            (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        }))
    }
}

/// API version and kind, shared by all that name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub api_version: String,
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub uid: Uid,
    pub kind: Arc<Kind>,
    pub name: Box<str>,
    pub blocks: bool,
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Arc<Kind>,
    /// Empty for cluster-scoped objects, and for virtual nodes perhaps wrong.
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub owners: Vec<Owner>,
    pub dependents: HashSet<Uid>,
    pub being_deleted: bool,
    /// Being deleted in the foreground: waits for its dependents.
    pub waits_for_dependents: bool,
    orphans: bool,
    /// Known only from a reference.
    pub is_virtual: bool,
}

/// What has to be looked at after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Look {
    /// Perhaps to be deleted, because an owner is gone or going.
    Delete(Uid),
    /// Its dependents have to be set free.
    Orphan(Uid),
}

#[derive(Default)]
pub struct Graph {
    nodes: HashMap<Uid, Node>,
    existing: HashMap<Arc<Kind>, HashSet<Uid>>,
    /// While a list of a kind runs: what it has named.
    listing: HashMap<Arc<Kind>, HashSet<Uid>>,
    kinds: HashSet<Arc<Kind>>,
}

impl Graph {
    pub fn kind(&mut self, api_version: &str, kind: &str) -> Arc<Kind> {
        let wanted = Kind { api_version: api_version.to_owned(), kind: kind.to_owned() };
        if let Some(known) = self.kinds.get(&wanted) {
            return known.clone();
        }
        let new = Arc::new(wanted);
        self.kinds.insert(new.clone());
        new
    }

    pub fn node(&self, uid: Uid) -> Option<&Node> {
        self.nodes.get(&uid)
    }

    /// Nodes, and all known objects.
    pub fn size(&self) -> (usize, usize) {
        (self.nodes.len(), self.existing.values().map(HashSet::len).sum())
    }

    pub fn begin_list(&mut self, kind: &Arc<Kind>) {
        self.listing.insert(kind.clone(), HashSet::new());
    }

    /// What was not listed is gone.
    pub fn end_list(&mut self, kind: &Arc<Kind>) -> Vec<Look> {
        let Some(listed) = self.listing.remove(kind) else { return Vec::new() };
        let gone: Vec<Uid> = self.existing.get(kind).into_iter().flatten().filter(|uid| !listed.contains(uid)).copied().collect();
        gone.into_iter().flat_map(|uid| self.remove(kind, uid)).collect()
    }

    /// The kind itself is gone from the API.
    pub fn forget_kind(&mut self, kind: &Arc<Kind>) -> Vec<Look> {
        self.begin_list(kind);
        let looks = self.end_list(kind);
        self.existing.remove(kind);
        looks
    }

    /// An object was created, changed or listed.
    pub fn apply(&mut self, kind: &Arc<Kind>, meta: &ObjectMeta) -> Vec<Look> {
        let uid = Uid::of(meta.uid.as_deref().unwrap_or_default());
        if let Some(listed) = self.listing.get_mut(kind) {
            listed.insert(uid);
        }
        self.existing.entry(kind.clone()).or_default().insert(uid);
        let owners: Vec<Owner> = meta.owner_references.iter().flatten().map(|owner| self.owner(owner)).collect();
        let has = |name: &str| meta.finalizers.iter().flatten().any(|finalizer| finalizer == name);
        let being_deleted = meta.deletion_timestamp.is_some();
        let (waits, orphans) = (being_deleted && has(FOREGROUND), being_deleted && has(ORPHAN));
        let known = self.nodes.get(&uid);
        if known.is_none() && owners.is_empty() && !waits && !orphans {
            return Vec::new();
        }
        let namespace: Box<str> = meta.namespace.as_deref().unwrap_or_default().into();
        let old = known.map(|node| (node.owners.clone(), node.waits_for_dependents, node.orphans)).unwrap_or_default();
        let node = self.nodes.entry(uid).or_insert_with(|| Node {
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: meta.name.as_deref().unwrap_or_default().into(),
            owners: Vec::new(),
            dependents: HashSet::new(),
            being_deleted,
            waits_for_dependents: false,
            orphans: false,
            is_virtual: false,
        });
        (node.kind, node.namespace, node.owners) = (kind.clone(), namespace.clone(), owners.clone());
        (node.being_deleted, node.waits_for_dependents, node.orphans, node.is_virtual) = (being_deleted, waits, orphans, false);

        let mut looks = Vec::new();
        if orphans && !old.2 {
            looks.push(Look::Orphan(uid));
        }
        if waits && !old.1 {
            looks.extend(node.dependents.iter().map(|&dependent| Look::Delete(dependent)));
            looks.push(Look::Delete(uid));
        }
        self.link(uid, &namespace, &old.0, &owners, &mut looks);
        looks
    }

    /// Moves the object from its old owners' dependents to the new ones'.
    fn link(&mut self, uid: Uid, namespace: &str, old: &[Owner], new: &[Owner], looks: &mut Vec<Look>) {
        for owner in old.iter().filter(|owner| !new.contains(owner)) {
            let still = new.iter().any(|other| other.uid == owner.uid);
            if let Some(node) = self.nodes.get_mut(&owner.uid) {
                if !still {
                    node.dependents.remove(&uid);
                }
                // It may have been the last that this one waited for.
                if node.waits_for_dependents {
                    looks.push(Look::Delete(owner.uid));
                }
            }
            self.shrink(owner.uid);
        }
        for owner in new.iter().filter(|owner| !old.iter().any(|other| other.uid == owner.uid)) {
            let exists = self.existing.values().any(|uids| uids.contains(&owner.uid));
            let node = self.nodes.entry(owner.uid).or_insert_with(|| {
                if !exists {
                    looks.push(Look::Delete(owner.uid));
                }
                Node {
                    kind: owner.kind.clone(),
                    namespace: namespace.into(),
                    name: owner.name.clone(),
                    owners: Vec::new(),
                    dependents: HashSet::new(),
                    being_deleted: false,
                    waits_for_dependents: false,
                    orphans: false,
                    is_virtual: !exists,
                }
            });
            node.dependents.insert(uid);
            if node.waits_for_dependents {
                looks.push(Look::Delete(uid));
            }
        }
    }

    /// An object is gone.
    pub fn remove(&mut self, kind: &Arc<Kind>, uid: Uid) -> Vec<Look> {
        if let Some(uids) = self.existing.get_mut(kind) {
            uids.remove(&uid);
        }
        let Some(node) = self.nodes.remove(&uid) else { return Vec::new() };
        let mut looks: Vec<Look> = node.dependents.iter().map(|&dependent| Look::Delete(dependent)).collect();
        for owner in &node.owners {
            if let Some(owner_node) = self.nodes.get_mut(&owner.uid) {
                owner_node.dependents.remove(&uid);
                if owner_node.waits_for_dependents {
                    looks.push(Look::Delete(owner.uid));
                }
            }
            self.shrink(owner.uid);
        }
        looks
    }

    /// Drops a node that has become uninteresting.
    fn shrink(&mut self, uid: Uid) {
        let idle = |node: &Node| node.owners.is_empty() && node.dependents.is_empty() && !node.waits_for_dependents && !node.orphans;
        if self.nodes.get(&uid).is_some_and(idle) {
            self.nodes.remove(&uid);
        }
    }

    /// Dependents whose existence keeps the object from going, with whether each waits for its own dependents.
    pub fn blockers(&self, uid: Uid) -> Vec<(Uid, bool)> {
        let dependents = self.nodes.get(&uid).map(|node| &node.dependents).into_iter().flatten();
        let blocks = |node: &&Node| node.owners.iter().any(|owner| owner.uid == uid && owner.blocks);
        dependents.filter_map(|&dependent| Some((dependent, self.nodes.get(&dependent).filter(blocks)?.waits_for_dependents))).collect()
    }

    fn owner(&mut self, reference: &OwnerReference) -> Owner {
        Owner {
            uid: Uid::of(&reference.uid),
            kind: self.kind(&reference.api_version, &reference.kind),
            name: reference.name.as_str().into(),
            blocks: reference.block_owner_deletion == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(Graph, Arc<Kind>);

    impl World {
        fn new() -> Self {
            let mut graph = Graph::default();
            let kind = graph.kind("v1", "Thing");
            Self(graph, kind)
        }

        /// `finalizer` set means that the object is being deleted.
        fn apply(&mut self, name: &str, owners: &[&str], finalizer: Option<&str>) -> Vec<Look> {
            let reference = |owner: &&str| OwnerReference {
                api_version: "v1".into(),
                kind: "Thing".into(),
                name: (*owner).into(),
                uid: (*owner).into(),
                block_owner_deletion: Some(true),
                ..OwnerReference::default()
            };
            let meta = ObjectMeta {
                uid: Some(name.into()),
                name: Some(name.into()),
                owner_references: Some(owners.iter().map(reference).collect()),
                finalizers: finalizer.map(|finalizer| vec![finalizer.into()]),
                deletion_timestamp: finalizer.map(|_| api::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH)),
                ..ObjectMeta::default()
            };
            let kind = self.1.clone();
            self.0.apply(&kind, &meta)
        }

        fn remove(&mut self, name: &str) -> Vec<Look> {
            let kind = self.1.clone();
            self.0.remove(&kind, Uid::of(name))
        }
    }

    fn delete(name: &str) -> Look {
        Look::Delete(Uid::of(name))
    }

    #[test]
    fn deleting_an_owner_looks_at_its_dependents() {
        let mut world = World::new();
        assert_eq!(world.apply("owner", &[], None), []);
        assert_eq!(world.0.size(), (0, 1), "nothing but the uid is kept");
        assert_eq!(world.apply("child", &["owner"], None), []);
        assert_eq!(world.apply("grandchild", &["child"], None), []);
        assert_eq!(world.remove("owner"), [delete("child")]);
        assert_eq!(world.remove("child"), [delete("grandchild")]);
        assert_eq!(world.remove("grandchild"), []);
        assert_eq!(world.0.size(), (0, 0));
    }

    #[test]
    fn an_unknown_owner_is_looked_at() {
        let mut world = World::new();
        assert_eq!(world.apply("child", &["ghost"], None), [delete("ghost")]);
        assert!(world.0.node(Uid::of("ghost")).is_some_and(|node| node.is_virtual));
        assert_eq!(world.remove("ghost"), [delete("child")]);
        assert_eq!(world.apply("other", &["late"], None), [delete("late")]);
        world.apply("late", &[], None);
        assert!(world.0.node(Uid::of("late")).is_some_and(|node| !node.is_virtual));
    }

    #[test]
    fn foreground_waits_for_blocking_dependents() {
        let mut world = World::new();
        world.apply("owner", &[], None);
        world.apply("child", &["owner"], None);
        assert_eq!(world.apply("owner", &[], Some(FOREGROUND)), [delete("child"), delete("owner")]);
        assert_eq!(world.0.blockers(Uid::of("owner")), [(Uid::of("child"), false)]);
        assert_eq!(world.apply("owner", &[], Some(FOREGROUND)), [], "only the transition counts");
        assert_eq!(world.remove("child"), [delete("owner")]);
        assert_eq!(world.0.blockers(Uid::of("owner")), []);
    }

    #[test]
    fn orphaning_and_released_dependents() {
        let mut world = World::new();
        world.apply("owner", &[], None);
        world.apply("child", &["owner"], None);
        assert_eq!(world.apply("owner", &[], Some(ORPHAN)), [Look::Orphan(Uid::of("owner"))]);
        world.apply("child", &[], None);
        assert_eq!(world.remove("owner"), []);
    }

    #[test]
    fn a_new_list_finds_what_is_gone() {
        let mut world = World::new();
        world.apply("owner", &[], None);
        world.apply("child", &["owner"], None);
        let kind = world.1.clone();
        world.0.begin_list(&kind);
        world.apply("child", &["owner"], None);
        assert_eq!(world.0.end_list(&kind), [delete("child")]);
    }

    #[test]
    fn uids_of_any_shape() {
        assert_eq!(Uid::of("00000000-0000-0000-0000-00000000000a"), Uid(10));
        assert_ne!(Uid::of("a"), Uid::of("b"));
    }
}
