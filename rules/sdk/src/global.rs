//! State of a rule, such as what `configure` made of its configuration.

#[cfg(target_arch = "wasm32")]
use core::cell::RefCell;
#[cfg(not(target_arch = "wasm32"))]
use std::{cell::RefCell, thread::LocalKey};

/// A static variable of a rule, made with [`global!`](crate::global).
///
/// What `configure` leaves in it is there in every evaluation. What an evaluation leaves in it is gone with its
/// instance, unless the rule runs with `isolation: PerWorker`.
///
/// Natively every thread has its own, and [`Sample`](crate::Sample) judges in a thread of its own: as fresh as a host's
/// instances.
#[cfg(target_arch = "wasm32")]
pub struct Global<T>(RefCell<T>);

#[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
compile_error!("rules run in one thread: build without the target feature `atomics`");

// SAFETY: a module without shared memory has one thread, and its exports are not called while one of them runs.
#[cfg(target_arch = "wasm32")]
unsafe impl<T> Sync for Global<T> {}

#[cfg(target_arch = "wasm32")]
impl<T> Global<T> {
    /// For [`global!`](crate::global).
    #[doc(hidden)]
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    fn inside<R>(&self, use_it: impl FnOnce(&RefCell<T>) -> R) -> R {
        use_it(&self.0)
    }
}

/// A static variable of a rule.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct Global<T: 'static>(&'static LocalKey<RefCell<T>>);

#[cfg(not(target_arch = "wasm32"))]
impl<T> Global<T> {
    /// For [`global!`](crate::global).
    #[doc(hidden)]
    #[must_use]
    pub const fn new(key: &'static LocalKey<RefCell<T>>) -> Self {
        Self(key)
    }

    fn inside<R>(&self, use_it: impl FnOnce(&RefCell<T>) -> R) -> R {
        self.0.with(use_it)
    }
}

impl<T> Global<T> {
    /// Lends the value.
    ///
    /// # Panics
    /// Inside a call of [`Self::with_mut`] of the same variable.
    pub fn with<R>(&self, read: impl FnOnce(&T) -> R) -> R {
        self.inside(|cell| read(&cell.borrow()))
    }

    /// Lends the value to be changed.
    ///
    /// # Panics
    /// Inside a call of [`Self::with`] or of this method of the same variable.
    pub fn with_mut<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        self.inside(|cell| change(&mut cell.borrow_mut()))
    }

    /// Replaces the value.
    ///
    /// # Panics
    /// As [`Self::with_mut`].
    pub fn set(&self, value: T) {
        self.with_mut(|place| *place = value);
    }

    /// A copy of the value.
    ///
    /// # Panics
    /// As [`Self::with`].
    pub fn get(&self) -> T
    where
        T: Copy,
    {
        self.with(|value| *value)
    }
}

/// Declares a [`Global`]: state of the rule, with the value that it has in the module.
///
/// ```
/// use portcullis_sdk::global;
///
/// global! {
///     /// The longest path that is let through, in bytes.
///     static LONGEST: usize = 4096;
/// }
///
/// LONGEST.set(100);
/// assert_eq!(LONGEST.get(), 100);
/// ```
#[macro_export]
macro_rules! global {
    ($($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $value:expr;)*) => { $(
        $(#[$attribute])*
        $visibility static $name: $crate::Global<$type> = $crate::new_global!($type, $value);
    )* };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! new_global {
    ($type:ty, $value:expr) => {
        $crate::Global::new($value)
    };
}

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[macro_export]
macro_rules! new_global {
    ($type:ty, $value:expr) => {{
        $crate::thread_local! {
            static LOCAL: ::core::cell::RefCell<$type> = const { ::core::cell::RefCell::new($value) };
        }
        $crate::Global::new(&LOCAL)
    }};
}
