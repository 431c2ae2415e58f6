//! A host key, written into an inventory.
//!
//! Goes in: the text of an inventory, a host and its key. Comes out: the text with the key at that
//! host. Invariant: nothing else of the text changes, comments and layout among it.

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Puts `host_key` at a host, in the place of what stood there. `None` where the text does not
/// describe the host.
#[must_use]
pub fn pin_host_key(text: &str, host: &str, key: &str) -> Option<String> {
    let mut document = text.parse::<DocumentMut>().ok()?;
    let table = find(document.as_table_mut(), host)?;
    match table.get_mut("host_key").and_then(Item::as_value_mut) {
        Some(known) => {
            let decor = known.decor().clone();
            *known = Value::from(key);
            *known.decor_mut() = decor;
        }
        None => append(table, key),
    }
    Some(document.to_string())
}

fn find<'a>(root: &'a mut dyn TableLike, host: &str) -> Option<&'a mut dyn TableLike> {
    let mut places = Vec::new();
    let described = |table: Option<&Item>| {
        let hosts = table.and_then(Item::as_table_like)?.get("hosts")?;
        hosts.as_table_like()?.get(host)?.as_table_like().map(drop)
    };
    if root
        .get("hosts")
        .and_then(Item::as_table_like)
        .is_some_and(|hosts| hosts.get(host).is_some_and(Item::is_table_like))
    {
        places = vec!["hosts".to_owned()];
    } else if let Some(groups) = root.get("groups").and_then(Item::as_table_like) {
        for (name, _) in groups.iter() {
            if described(groups.get(name)).is_some() {
                places = vec!["groups".to_owned(), name.to_owned(), "hosts".to_owned()];
            }
        }
    }
    if places.is_empty() {
        return None;
    }
    let mut table = root;
    for step in places.iter().map(String::as_str).chain([host]) {
        table = table.get_mut(step)?.as_table_like_mut()?;
    }
    Some(table)
}

/// Adds the key behind what is there. In `{ a = 1 }` the blank before the brace belongs to the last
/// value, and so moves on.
fn append(table: &mut dyn TableLike, key: &str) {
    let mut value = Value::from(key);
    let last = table.iter().last().map(|(name, _)| name.to_owned());
    if let Some(last) = last.and_then(|name| table.get_mut(&name).and_then(Item::as_value_mut))
        && let Some(end) = last.decor().suffix().and_then(|end| end.as_str())
        && end.trim().is_empty()
    {
        let end = end.to_owned();
        last.decor_mut().set_suffix("");
        value.decor_mut().set_prefix(" ");
        value.decor_mut().set_suffix(end);
    }
    table.insert("host_key", Item::Value(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAA1";

    #[test]
    fn every_way_to_describe_a_host_keeps_its_layout() {
        let text = "\
# On the left.
provider = \"on-prem\"

[hosts.a]   # first
address = \"10.0.0.1\"  # its own

[groups.gateways]
hosts.b = { address = \"10.0.0.2\" }   # second
hosts.c = {address=\"10.0.0.3\", settings = { x = 1 }}

[groups.storage.hosts]
d = { address = \"10.0.0.4\", host_key = \"ssh-ed25519 AAAA0\" }  # fourth

[groups.storage.hosts.e]
address = \"10.0.0.5\"
volumes.data = { serial = \"S\" }
host_key = \"ssh-rsa AAAA0\"    # old

[groups.all]
hosts = [\"a\"]
";
        let mut pinned = text.to_owned();
        for host in ["a", "b", "c", "d", "e"] {
            pinned = pin_host_key(&pinned, host, KEY).unwrap();
        }
        insta::assert_snapshot!(pinned);
        assert_eq!(pin_host_key(text, "f", KEY), None);
        assert_eq!(pin_host_key("broken = ", "a", KEY), None);
    }
}
