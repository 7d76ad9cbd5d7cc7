//! Which objects a controller owns: adopting matching orphans, releasing those that no longer match (pkg/controller/controller_ref_manager.go).

use api::meta::v1::{ObjectMeta, OwnerReference};
use api::selector::Selector;
use client::{Api, Object};
use serde_json::{Value, json};

/// What to do with one candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Owned and matching.
    Keep,
    /// A matching orphan.
    Adopt,
    /// Owned, but it no longer matches.
    Release,
    /// Somebody else's, or nobody's business.
    Ignore,
}

/// `owner` is the claimant's metadata.
pub fn claim(owner: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    let matches = selector.matches_opt(object.labels.as_ref());
    match client::controller_of(object) {
        Some(controller) if Some(&controller.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        // An owner that is being deleted leaves its objects to the garbage collector.
        Some(_) if owner.deletion_timestamp.is_some() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if !matches || owner.deletion_timestamp.is_some() || object.deletion_timestamp.is_some() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Asks the API whether the claimant may adopt now: a cache may be late to know that it is being deleted, and an orphan adopted then would go with it
/// (`RecheckDeletionTimestamp`).
pub async fn may_adopt<K>(owners: &Api<K>, owner: &K) -> Result<bool, kube::Error>
where
    K: Object<DynamicType = ()>,
{
    let latest = owners.get_opt(owner.meta().name.as_deref().unwrap_or_default()).await?;
    Ok(latest.is_some_and(|latest| latest.meta().uid == owner.meta().uid && latest.meta().deletion_timestamp.is_none()))
}

/// A strategic patch that makes `owner` the controller of the object with this uid.
pub fn adoption_patch(owner: &OwnerReference, uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [owner], "uid": uid}})
}

/// A strategic patch that takes the owner away again.
pub fn release_patch(owner_uid: &str, uid: &str) -> Value {
    json!({"metadata": {"ownerReferences": [{"$patch": "delete", "uid": owner_uid}], "uid": uid}})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base::clock;

    use super::*;

    #[test]
    fn claims() {
        let selector = Selector::parse("app=web").expect("a selector");
        let check = |owner_uid: Option<&str>, app: &str, owner_deleted: bool, expected: Claim| {
            let deleted = owner_deleted.then(|| api::meta::v1::Time(clock::now()));
            let owner = ObjectMeta { uid: Some("1".into()), deletion_timestamp: deleted, ..ObjectMeta::default() };
            let reference = |uid: &str| OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() };
            let object = ObjectMeta {
                labels: Some(BTreeMap::from([("app".into(), app.into())])),
                owner_references: owner_uid.map(|uid| vec![reference(uid)]),
                ..ObjectMeta::default()
            };
            assert_eq!(claim(&owner, &selector, &object), expected, "{owner_uid:?} {app} {owner_deleted}");
        };
        check(Some("1"), "web", false, Claim::Keep);
        check(Some("1"), "db", false, Claim::Release);
        check(Some("1"), "db", true, Claim::Ignore);
        check(Some("2"), "web", false, Claim::Ignore);
        check(None, "web", false, Claim::Adopt);
        check(None, "web", true, Claim::Ignore);
        check(None, "db", false, Claim::Ignore);
    }
}
