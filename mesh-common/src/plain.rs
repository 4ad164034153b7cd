//! The one place that vouches for a type being plain bytes: `repr(C)`, no padding, every bit pattern valid.

/// A type without padding whose every bit pattern is a valid value, so that it may cross the kernel border as bytes.
///
/// # Safety
/// Implemented by `plain!` alone, which proves the layout when it compiles.
pub unsafe trait Plain: Copy + 'static {
    /// The type's name, fields, offsets and sizes, as `schema.lock` records them.
    const LAYOUT: Layout;
}

/// What `schema.lock` records of a type.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The type's name.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// Each field's name, offset and size, in order.
    pub fields: &'static [(&'static str, usize, usize)],
}

/// The bytes of a plain value, in memory order.
#[must_use]
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: `Plain` has no padding, so each of the size_of::<T>() bytes is initialised.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
}

/// A plain value from its bytes; None unless there are exactly as many as the type has.
#[must_use]
pub fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != size_of::<T>() {
        return None;
    }
    // SAFETY: the length was checked and every bit pattern is a valid T; the read does not need alignment.
    Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) })
}

// SAFETY: an integer has no padding and every bit pattern is valid.
unsafe impl Plain for u32 {
    const LAYOUT: Layout = Layout {
        name: "u32",
        size: 4,
        align: 4,
        fields: &[],
    };
}
// SAFETY: as for u32.
unsafe impl Plain for u64 {
    const LAYOUT: Layout = Layout {
        name: "u64",
        size: 8,
        align: 8,
        fields: &[],
    };
}

/// Defines a `repr(C)` struct of private fields and proves that its fields fill it without a hole.
macro_rules! plain {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty),+ $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* $field: $type),+ }

        const _: () = assert!(
            size_of::<$name>() == 0 $(+ size_of::<$type>())+,
            concat!(stringify!($name), " has padding: name the gap as a field"),
        );

        // SAFETY: repr(C), made of Plain fields (checked by the bound below), and the sizes of the fields add up to
        // the size of the struct, so there is no padding.
        unsafe impl $crate::plain::Plain for $name {
            const LAYOUT: $crate::plain::Layout = $crate::plain::Layout {
                name: stringify!($name),
                size: size_of::<$name>(),
                align: align_of::<$name>(),
                fields: &[$((stringify!($field), core::mem::offset_of!($name, $field), size_of::<$type>())),+],
            };
        }

        const _: () = {
            const fn is_plain<T: $crate::plain::FieldOfPlain>() {}
            $(is_plain::<$type>();)+
        };
    };
}
pub(crate) use plain;

/// What a field of a plain struct may be: an integer or another plain type.
pub(crate) trait FieldOfPlain {}
impl FieldOfPlain for u8 {}
impl FieldOfPlain for u16 {}
impl<T: Plain, const N: usize> FieldOfPlain for [T; N] {}
impl<T: Plain> FieldOfPlain for T {}
