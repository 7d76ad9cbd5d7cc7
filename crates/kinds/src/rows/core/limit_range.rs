//! LimitRange.

use std::collections::BTreeMap;

use api::core::v1::{LimitRange, LimitRangeItem};
use api::quantity::{self, Amount};
use api::{FieldErrors, Path, Quantity};

use crate::defaults::resource_list;
use crate::kind::{Kind, KindInfo};
use crate::validation::{required, resources};

impl Kind for LimitRange {
    const INFO: KindInfo = KindInfo {
        singular: "limitrange",
        short_names: &["limits"],
        schema: "io.k8s.api.core.v1.LimitRange",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    /// What has a limit has it as default too (pkg/apis/core/v1/defaults.go: SetDefaults_LimitRangeItem).
    fn default_fields(&mut self) {
        for item in &mut self.spec.get_or_insert_default().limits {
            for list in [&mut item.max, &mut item.min, &mut item.default, &mut item.default_request, &mut item.max_limit_request_ratio] {
                resource_list(list);
            }
            if item.type_ == "Container" {
                let fill = |list: &mut Option<BTreeMap<String, Quantity>>, from: &Option<BTreeMap<String, Quantity>>| {
                    let list = list.get_or_insert_default();
                    for (name, amount) in from.iter().flatten() {
                        list.entry(name.clone()).or_insert_with(|| amount.clone());
                    }
                };
                fill(&mut item.default, &item.max);
                fill(&mut item.default_request, &item.default);
                fill(&mut item.default_request, &item.min);
            }
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("limits");
        let mut types: Vec<&str> = Vec::new();
        for (index, item) in self.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let path = path.index(index);
            required(errors, &path.child("type"), &item.type_, "");
            if types.contains(&item.type_.as_str()) {
                errors.duplicate(&path.child("type"), &item.type_);
            }
            types.push(&item.type_);
            limits(errors, &path, item);
        }
    }
}

fn limits(errors: &mut FieldErrors, path: &Path, item: &LimitRangeItem) {
    let lists = [
        ("min", &item.min),
        ("max", &item.max),
        ("default", &item.default),
        ("defaultRequest", &item.default_request),
        ("maxLimitRequestRatio", &item.max_limit_request_ratio),
    ];
    for (field, list) in lists {
        for (name, amount) in list.iter().flatten() {
            let path = path.child(field).key(name);
            resources::resource_name(errors, &path, name);
            resources::amount(errors, &path, amount);
        }
    }
    let amount =
        |list: &Option<BTreeMap<String, Quantity>>, name: &str| -> Option<Amount> { quantity::parse(&list.as_ref()?.get(name)?.0).ok() };
    let mut ordered = |low: &Option<BTreeMap<String, Quantity>>, low_field: &str, low_name: &str, high: &_, high_name: &str| {
        for name in low.iter().flatten().map(|(name, _)| name) {
            let (Some(low), Some(high)) = (amount(low, name), amount(high, name)) else { continue };
            if low > high {
                let detail = format!("{low_name} value {low} is greater than {high_name} value {high}");
                errors.invalid(&path.child(low_field).key(name), low.to_string(), &detail);
            }
        }
    };
    ordered(&item.min, "min", "min", &item.max, "max");
    ordered(&item.default_request, "defaultRequest", "default request", &item.max, "max");
    ordered(&item.default_request, "defaultRequest", "default request", &item.default, "default limit");
    ordered(&item.default, "default", "default", &item.max, "max");
}
