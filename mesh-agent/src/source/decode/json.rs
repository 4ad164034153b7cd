//! JSON: one object a file, or lists of them. The text is looked through once for its syntax, then item by item, so that
//! a bad item spoils no other and few parsed objects are in memory at a time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    document::{Body, Item, MOST_LISTS, Malformed, no_items, no_object, too_many_lists},
    field::Rejected,
    head::Head,
    typed::without_place,
};

#[derive(Deserialize)]
#[serde(expecting = "a list")]
struct Items<'a> {
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

pub(super) fn for_each_item(text: &str, each: &mut dyn FnMut(Item<'_>)) -> Result<(), Malformed> {
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| {
        let line = u64::try_from(error.line()).ok().filter(|line| *line > 0);
        let reason = format!("no JSON: {error}");
        Malformed { line, reason }
    })?;
    object(whole.get(), text, None, 0, each);
    Ok(())
}

fn object(
    text: &str,
    file: &str,
    list: Option<&Head>,
    depth: usize,
    each: &mut dyn FnMut(Item<'_>),
) {
    let mut item = |head| {
        let body = Body::Json { text, file };
        each(Item { head, body });
    };
    let mut head = match head(text) {
        Ok(head) => head,
        Err(rejected) => return item(Err(rejected)),
    };
    if let Some(list) = list {
        head.inherit(list);
    }
    if !head.is_list() {
        return item(Ok(head));
    }
    if depth >= MOST_LISTS {
        return item(Err(too_many_lists()));
    }
    match serde_json::from_str::<Items<'_>>(text) {
        Ok(Items { items: Some(items) }) => items
            .into_iter()
            .for_each(|inner| object(inner.get(), file, Some(&head), depth + 1, each)),
        // A kind may be called so and be no list; an empty list is written as null by some.
        Ok(Items { items: None }) => item(Ok(head)),
        Err(error) => item(Err(no_items(without_place(&error)))),
    }
}

fn head(text: &str) -> Result<Head, Rejected> {
    if !text.trim_start().starts_with('{') {
        return Err(no_object());
    }
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let reason = without_place(error.inner());
        Rejected::at_path(error.path(), reason, "write it as kubectl prints it")
    })
}
