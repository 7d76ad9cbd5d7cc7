//! What rows say again and again, said once.

/// Hooks of a kind with `spec` and an optional `status` that clients write through the status subresource alone.
macro_rules! spec_and_status {
    () => {
        fn prepare_create(&mut self) {
            self.status = Some(Default::default());
        }

        spec_and_status!(updates);
    };
    (updates) => {
        fn prepare_update(&mut self, old: &Self) {
            self.status = old.status.clone();
        }

        fn prepare_status_update(&mut self, old: &Self) {
            self.spec = old.spec.clone();
        }

        fn spec_changed(&self, old: &Self) -> bool {
            self.spec != old.spec
        }
    };
}

/// `metadata.generation` counts changes of everything outside metadata.
macro_rules! all_is_spec {
    () => {
        fn spec_changed(&self, old: &Self) -> bool {
            let mut same_meta = old.clone();
            same_meta.metadata = self.metadata.clone();
            *self != same_meta
        }
    };
}

pub(super) use {all_is_spec, spec_and_status};
