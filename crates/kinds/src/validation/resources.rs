//! Rules on resource names and amounts (pkg/apis/core/validation: ValidateContainerResourceRequirements and friends).

use std::collections::BTreeMap;

use api::core::v1::ResourceRequirements;
use api::quantity::{self, Amount};
use api::{FieldErrors, Path, Quantity, names};

use super::{NOT_NEGATIVE, each};

pub type ResourceList = BTreeMap<String, Quantity>;

const STANDARD_CONTAINER: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// Names without a domain that count as resources somewhere: of containers, claims and quotas.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "services",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

pub fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// A resource that some device plugin brings.
pub fn is_extended(name: &str) -> bool {
    name.contains('/') && !is_native(name) && !name.starts_with("requests.")
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether requests may be below limits.
fn is_overcommit_allowed(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Parses, and reports what is no quantity or negative.
pub fn amount(errors: &mut FieldErrors, path: &Path, quantity: &Quantity) -> Option<Amount> {
    match quantity::parse(&quantity.0) {
        Ok(amount) if amount.sign() < 0 => {
            errors.invalid(path, &quantity.0, NOT_NEGATIVE);
            None
        }
        Ok(amount) => Some(amount),
        Err(error) => {
            errors.invalid(path, &quantity.0, &error.to_string());
            None
        }
    }
}

/// The name of a resource in general: quotas, limit ranges, volumes.
pub fn resource_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    let problems = names::qualified_name(name);
    let qualified = problems.is_empty();
    each(errors, path, name, problems);
    let known = STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-") || name.starts_with("count/");
    if qualified && !name.contains('/') && !known {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

fn container_resource_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    resource_name(errors, path, name);
    if !name.contains('/') && !STANDARD_CONTAINER.contains(&name) && !is_huge_page(name) {
        errors.invalid(path, name, "must be a standard resource for containers");
    }
}

fn integer(errors: &mut FieldErrors, path: &Path, name: &str, quantity: &Quantity, amount: Amount) {
    if is_extended(name) && !amount.is_integer() {
        errors.invalid(path, &quantity.0, "must be an integer");
    }
}

/// Requests and limits of a container.
pub fn requirements(errors: &mut FieldErrors, path: &Path, resources: Option<&ResourceRequirements>, claim_names: &[&str]) {
    let Some(resources) = resources else { return };
    let empty = ResourceList::new();
    let limits = resources.limits.as_ref().unwrap_or(&empty);
    let requests = resources.requests.as_ref().unwrap_or(&empty);
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    for (name, quantity) in limits {
        let path = limits_path.key(name);
        container_resource_name(errors, &path, name);
        if let Some(amount) = amount(errors, &path, quantity) {
            integer(errors, &path, name, quantity, amount);
        }
    }
    for (name, quantity) in requests {
        let path = requests_path.key(name);
        container_resource_name(errors, &path, name);
        let Some(request) = amount(errors, &path, quantity) else { continue };
        integer(errors, &path, name, quantity, request);
        match limits.get(name) {
            Some(limit) => request_within_limit(errors, &requests_path, name, request, limit),
            None if !is_overcommit_allowed(name) => {
                errors.required(&limits_path, "Limit must be set for non overcommitable resources");
            }
            None => {}
        }
    }
    claims(errors, &path.child("claims"), resources, claim_names);
}

fn request_within_limit(errors: &mut FieldErrors, path: &Path, name: &str, request: Amount, limit: &Quantity) {
    let Ok(limit) = quantity::parse(&limit.0) else { return };
    if !is_overcommit_allowed(name) && request != limit {
        errors.invalid(path, request.to_string(), &format!("must be equal to {name} limit of {limit}"));
    } else if request > limit {
        errors.invalid(path, request.to_string(), &format!("must be less than or equal to {name} limit of {limit}"));
    }
}

fn claims(errors: &mut FieldErrors, path: &Path, resources: &ResourceRequirements, claim_names: &[&str]) {
    for (index, claim) in resources.claims.iter().flatten().enumerate() {
        let path = path.index(index).child("name");
        if claim.name.is_empty() {
            errors.required(&path, "");
        } else if !claim_names.contains(&claim.name.as_str()) {
            errors.not_found(&path, &claim.name);
        }
    }
}
