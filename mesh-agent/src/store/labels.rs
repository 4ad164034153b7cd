//! Names by label, within a namespace, so that neither a Pod nor a selector means a look at everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::model::ObjectName;

type Text = Arc<str>;

/// Names by (namespace, key, value).
#[derive(Clone, Debug, Default)]
pub(super) struct LabelIndex(BTreeSet<(Text, Text, Text, Text)>);

impl LabelIndex {
    pub(super) fn insert(&mut self, object: &ObjectName, key: &Text, value: &Text) {
        self.0.insert(entry(object, key, value));
    }

    pub(super) fn remove(&mut self, object: &ObjectName, key: &Text, value: &Text) {
        self.0.remove(&entry(object, key, value));
    }

    pub(super) fn names<'a>(
        &'a self,
        namespace: &'a Text,
        key: &'a Text,
        value: &'a Text,
    ) -> impl Iterator<Item = &'a Text> {
        let first = (
            namespace.clone(),
            key.clone(),
            value.clone(),
            Text::default(),
        );
        self.0
            .range(first..)
            .take_while(move |(n, k, v, _)| n == namespace && k == key && v == value)
            .map(|(.., name)| name)
    }
}

fn entry(object: &ObjectName, key: &Text, value: &Text) -> (Text, Text, Text, Text) {
    (
        object.namespace.clone(),
        key.clone(),
        value.clone(),
        object.name.clone(),
    )
}

/// Whether every label of the selector is among the labels.
pub(super) fn selects(selector: &BTreeMap<Text, Text>, labels: &BTreeMap<Text, Text>) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
