//! A pod's class of service, from its requests and limits (pkg/apis/core/helper/qos).

use std::collections::BTreeMap;

use api::core::v1::{PodSpec, ResourceRequirements};
use api::quantity::{self, Amount};

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &PodSpec) -> &'static str {
    if let Some(resources) = &spec.resources {
        return of(&[resources]);
    }
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let none = ResourceRequirements::default();
    let all: Vec<&ResourceRequirements> = containers.map(|container| container.resources.as_ref().unwrap_or(&none)).collect();
    of(&all)
}

fn of(all: &[&ResourceRequirements]) -> &'static str {
    let mut guaranteed = true;
    let mut any = false;
    for resources in all {
        for name in ["cpu", "memory"] {
            let amount = |list: &Option<BTreeMap<String, api::Quantity>>| -> Option<Amount> {
                let amount = quantity::parse(&list.as_ref()?.get(name)?.0).ok()?;
                if amount.is_zero() { None } else { Some(amount) }
            };
            let (request, limit) = (amount(&resources.requests), amount(&resources.limits));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        for (resources, expected) in [
            (json!([{}]), "BestEffort"),
            (json!([{"requests": {"cpu": "0"}}]), "BestEffort"),
            (json!([{"requests": {"cpu": "1"}}]), "Burstable"),
            (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}]), "Guaranteed"),
            (json!([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}}]), "Guaranteed"),
            (json!([{"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}}]), "Burstable"),
            (json!([{"limits": {"cpu": "1", "memory": "1Gi"}}, {}]), "Burstable"),
        ] {
            let containers: Vec<_> = resources.as_array().expect("a list").iter().map(|r| json!({"name": "a", "resources": r})).collect();
            let spec: PodSpec = serde_json::from_value(json!({ "containers": containers })).expect("a spec");
            assert_eq!(class(&spec), expected, "{resources}");
        }
    }
}
