//! Hashes of pod templates, and pods made from them.

use api::core::v1::{Pod, PodTemplateSpec};
use api::meta::v1::{ObjectMeta, OwnerReference};

pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Letters that cannot form words (apimachinery/pkg/util/rand).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short name for a template, the same for equal templates. `collisions` makes another one when the name is taken.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // Serializing a typed value cannot fail and gives the fields in a fixed order.
    let mut bytes = serde_json::to_vec(template).expect("a pod template is plain data");
    if let Some(collisions) = collisions {
        bytes.extend_from_slice(&collisions.to_le_bytes());
    }
    let fnv = bytes.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    safe_encode(&fnv.to_string())
}

pub fn safe_encode(text: &str) -> String {
    text.bytes().map(|byte| char::from(SAFE[usize::from(byte) % SAFE.len()])).collect()
}

/// Whether two templates are equal apart from the hash label.
pub fn equal_ignoring_hash(left: &PodTemplateSpec, right: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(meta) = &mut template.metadata {
            if let Some(labels) = &mut meta.labels {
                labels.remove(POD_TEMPLATE_HASH);
            }
            // Absent and empty mean the same.
            meta.labels.take_if(|labels| labels.is_empty());
            meta.annotations.take_if(|annotations| annotations.is_empty());
            meta.creation_timestamp = None;
        }
        template.metadata.take_if(|meta| *meta == ObjectMeta::default());
        template
    };
    bare(left) == bare(right)
}

/// A pod as a controller creates it; its name begins with the owner's (`GetPodFromTemplate` in pkg/controller/controller_utils.go).
pub fn pod(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn template(labels: &[(&str, &str)]) -> PodTemplateSpec {
        let labels: BTreeMap<String, String> = labels.iter().map(|&(key, value)| (key.into(), value.into())).collect();
        PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }), spec: None }
    }

    #[test]
    fn hashes_and_equality() {
        let web = template(&[("app", "web")]);
        assert_eq!(hash(&web, None), hash(&web.clone(), None));
        assert_ne!(hash(&web, None), hash(&web, Some(1)));
        assert_ne!(hash(&web, None), hash(&template(&[("app", "db")]), None));
        assert!(hash(&web, None).bytes().all(|byte| SAFE.contains(&byte)));
        assert!(equal_ignoring_hash(&web, &template(&[("app", "web"), (POD_TEMPLATE_HASH, "x")])));
        assert!(!equal_ignoring_hash(&web, &template(&[("app", "db")])));
        assert!(equal_ignoring_hash(&PodTemplateSpec::default(), &template(&[(POD_TEMPLATE_HASH, "x")])));
    }

    #[test]
    fn encodes_as_upstream() {
        assert_eq!(safe_encode("0123456789"), "456789bcdf");
    }
}
