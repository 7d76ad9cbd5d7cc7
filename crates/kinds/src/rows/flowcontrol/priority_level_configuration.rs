//! PriorityLevelConfiguration.

use api::flowcontrol::v1::PriorityLevelConfiguration;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{not_negative, one_of};

impl Kind for PriorityLevelConfiguration {
    const INFO: KindInfo = KindInfo {
        singular: "prioritylevelconfiguration",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(exempt) = &mut spec.exempt {
            set(&mut exempt.nominal_concurrency_shares, 0);
            set(&mut exempt.lendable_percent, 0);
        } else if spec.type_ == "Exempt" {
            let exempt = spec.exempt.get_or_insert_default();
            exempt.nominal_concurrency_shares = Some(0);
            exempt.lendable_percent = Some(0);
        }
        if let Some(limited) = &mut spec.limited {
            set(&mut limited.nominal_concurrency_shares, 30);
            set(&mut limited.lendable_percent, 0);
            if let Some(queuing) = limited.limit_response.as_mut().and_then(|response| response.queuing.as_mut()) {
                set(&mut queuing.hand_size, 8);
                set(&mut queuing.queues, 64);
                set(&mut queuing.queue_length_limit, 50);
            }
        }
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        one_of(errors, &path.child("type"), Some(&spec.type_), &["Exempt", "Limited"]);
        match (spec.type_.as_str(), &spec.limited, &spec.exempt) {
            ("Exempt", Some(_), _) => errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited"),
            ("Limited", _, Some(_)) => errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited"),
            ("Limited", None, _) => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
            _ => {}
        }
        let Some(limited) = &spec.limited else { return };
        let path = path.child("limited");
        not_negative(errors, &path.child("nominalConcurrencyShares"), limited.nominal_concurrency_shares.unwrap_or(0));
        let response = limited.limit_response.clone().unwrap_or_default();
        let response_path = path.child("limitResponse");
        one_of(errors, &response_path.child("type"), Some(&response.type_), &["Queue", "Reject"]);
        let queuing_path = response_path.child("queuing");
        match (response.type_.as_str(), &response.queuing) {
            ("Queue", None) => errors.required(&queuing_path, "must not be empty if limited type is not Queue"),
            ("Reject", Some(_)) => errors.forbidden(&queuing_path, "must be nil if limited type is not Queue"),
            ("Queue", Some(queuing)) => {
                let numbers =
                    [("queueLengthLimit", queuing.queue_length_limit), ("queues", queuing.queues), ("handSize", queuing.hand_size)];
                for (field, value) in numbers {
                    if value.unwrap_or(0) <= 0 {
                        errors.invalid(&queuing_path.child(field), value.unwrap_or(0), "must be positive");
                    }
                }
                if queuing.hand_size > queuing.queues {
                    let detail = format!("should not be greater than queues ({})", queuing.queues.unwrap_or(0));
                    errors.invalid(&queuing_path.child("handSize"), queuing.hand_size.unwrap_or(0), &detail);
                }
            }
            _ => {}
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Type", "string"),
                column("NominalConcurrencyShares", "string"),
                column("Queues", "string"),
                column("HandSize", "string"),
                column("QueueLengthLimit", "string"),
                AGE,
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let number = |value: Option<i32>| json!(value.map_or_else(|| crate::printing::NONE.to_owned(), |value| value.to_string()));
        let limited = spec.limited.unwrap_or_default();
        let exempt_shares = spec.exempt.and_then(|exempt| exempt.nominal_concurrency_shares);
        let shares = number(limited.nominal_concurrency_shares.or(exempt_shares));
        let queuing = limited.limit_response.and_then(|response| response.queuing).unwrap_or_default();
        vec![
            name(&self.metadata),
            json!(spec.type_),
            shares,
            number(queuing.queues),
            number(queuing.hand_size),
            number(queuing.queue_length_limit),
            age(&self.metadata, now),
        ]
    }
}
