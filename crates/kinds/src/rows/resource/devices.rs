//! What claims for devices and their templates share (pkg/apis/resource).

use api::resource::v1::ResourceClaimSpec;
use api::{FieldErrors, Path, names};

use crate::defaults::{set, set_text};
use crate::validation::{one_of, required_text};

pub fn default_spec(spec: &mut ResourceClaimSpec) {
    spec.devices.get_or_insert_default();
    for request in spec.devices.iter_mut().flat_map(|devices| devices.requests.iter_mut().flatten()) {
        if let Some(exact) = &mut request.exactly {
            set_text(&mut exact.allocation_mode, "ExactCount");
            if exact.allocation_mode.as_deref() == Some("ExactCount") {
                set(&mut exact.count, 1);
            }
        }
        for alternative in request.first_available.iter_mut().flatten() {
            set_text(&mut alternative.allocation_mode, "ExactCount");
            if alternative.allocation_mode.as_deref() == Some("ExactCount") {
                set(&mut alternative.count, 1);
            }
        }
    }
}

pub fn spec(errors: &mut FieldErrors, path: &Path, spec: &ResourceClaimSpec) {
    let path = path.child("devices").child("requests");
    let requests = spec.devices.as_ref().and_then(|devices| devices.requests.as_deref()).unwrap_or_default();
    let mut seen: Vec<&str> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let path = path.index(index);
        required_text(errors, &path.child("name"), &request.name, names::dns_label);
        if seen.contains(&request.name.as_str()) {
            errors.duplicate(&path.child("name"), &request.name);
        }
        seen.push(&request.name);
        let alternatives = request.first_available.as_ref().is_some_and(|list| !list.is_empty());
        match &request.exactly {
            None if !alternatives => errors.required(&path, "exactly one of `exactly` or `firstAvailable` is required"),
            None => {}
            Some(_) if alternatives => {
                let value = crate::validation::shown(request);
                errors.invalid(&path, &value, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set");
            }
            Some(exact) => {
                let path = path.child("exactly");
                required_text(errors, &path.child("deviceClassName"), &exact.device_class_name, names::dns_subdomain);
                let mode = exact.allocation_mode.as_deref();
                one_of(errors, &path.child("allocationMode"), mode, &["All", "ExactCount"]);
                if mode == Some("ExactCount") && exact.count.unwrap_or(0) <= 0 {
                    errors.invalid(&path.child("count"), exact.count.unwrap_or(0), "must be greater than zero");
                }
            }
        }
    }
}
