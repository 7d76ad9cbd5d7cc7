//! ServiceCIDR.

use api::networking::v1::ServiceCIDR;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;

impl Kind for ServiceCIDR {
    const INFO: KindInfo = KindInfo {
        singular: "servicecidr",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.networking.v1.ServiceCIDR",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec").child("cidrs");
        let cidrs = self.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
        if cidrs.is_empty() {
            errors.required(&path, "at least one CIDR required");
        } else if cidrs.len() > 2 {
            errors.invalid(&path, &crate::validation::shown(&cidrs), "may only hold up to 2 values");
        }
        for (index, cidr) in cidrs.iter().enumerate() {
            if cidr.parse::<ipnet::IpNet>().is_err() {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.invalid(&path.index(index), cidr, detail);
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let cidrs = |object: &Self| object.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default();
        crate::validation::immutable(errors, &Path::new("spec").child("cidrs"), &cidrs(self), &cidrs(old));
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("CIDRs", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let cidrs = self.spec.as_ref().and_then(|spec| spec.cidrs.clone()).unwrap_or_default().join(",");
        vec![name(&self.metadata), json!(cidrs), age(&self.metadata, now)]
    }
}
