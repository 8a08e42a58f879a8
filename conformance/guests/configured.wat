;; Its configuration is a JSON string of at most 64 bytes without escapes; Block if the header `x-probe` has that value.
;; Without a configuration Allow. Any other configuration is refused, and the detail says what was expected.
(module
  (@custom "portcullis.describe" "{\"name\":\"configured\",\"version\":\"1.0.0\",\"abi\":{\"major\":2,\"minor\":0},\"phases\":[\"request\"],\"sections\":[\"headers\"],\"configSchema\":{\"type\":\"string\",\"maxLength\":64}}")
  (memory (export "memory") 1)
  (data (i32.const 16) "x-probe")
  (data (i32.const 64) "\01\00\00\00\20\00\00\00" "expected a string of <= 64 bytes")

  ;; One region for all that the host writes, behind the data: the memory is grown to hold it.
  (func (export "pc_buffer") (param $len i32) (result i32)
    (local $short i32)
    (local.set $short (i32.sub (i32.add (local.get $len) (i32.const 4096))
      (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $short) (i32.const 0))
      (then (if (i32.eq (i32.const -1)
          (memory.grow (i32.shr_u (i32.add (local.get $short) (i32.const 65535)) (i32.const 16))))
        (then (return (i32.const 0))))))
    (i32.const 4096))

  ;; The directory's record of a section, or 0.
  (func $record (param $view i32) (param $id i32) (result i32)
    (local $at i32) (local $end i32)
    (local.set $at (i32.add (local.get $view) (i32.const 16)))
    (local.set $end (i32.add (local.get $at)
      (i32.shl (i32.load offset=12 (local.get $view)) (i32.const 4))))
    (block $none
      (loop $next
        (br_if $none (i32.ge_u (local.get $at) (local.get $end)))
        (if (i32.eq (i32.load16_u (local.get $at)) (local.get $id)) (then (return (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next)))
    (i32.const 0))

  ;; The address of the section that a record speaks of.
  (func $section (param $view i32) (param $record i32) (result i32)
    (i32.add (local.get $view) (i32.load offset=4 (local.get $record))))

  ;; Whether $length bytes at two addresses are the same.
  (func $equal (param $left i32) (param $right i32) (param $length i32) (result i32)
    (block $differ
      (loop $next
        (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
        (br_if $differ (i32.ne (i32.load8_u (local.get $left)) (i32.load8_u (local.get $right))))
        (local.set $left (i32.add (local.get $left) (i32.const 1)))
        (local.set $right (i32.add (local.get $right) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  ;; The table's row of the header `x-probe`, or 0.
  (func $x_probe (param $view i32) (result i32)
    (local $record i32) (local $section i32) (local $row i32) (local $left i32)
    (local.set $record (call $record (local.get $view) (i32.const 5)))
    (local.set $section (call $section (local.get $view) (local.get $record)))
    (local.set $row (local.get $section))
    (local.set $left (i32.load offset=12 (local.get $record)))
    (block $none
      (loop $next
        (br_if $none (i32.eqz (local.get $left)))
        (if (i32.eq (i32.load offset=8 (local.get $row)) (i32.const 7))
          (then (if (call $equal
              (i32.add (local.get $section) (i32.load offset=4 (local.get $row))) (i32.const 16) (i32.const 7))
            (then (return (local.get $row))))))
        (local.set $row (i32.add (local.get $row) (i32.const 52)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (global $length (mut i32) (i32.const -1))

  (func (export "pc_configure") (param $json i32) (param $len i32) (result i32)
    (local $at i32)
    (if (i32.or (i32.lt_u (local.get $len) (i32.const 2)) (i32.gt_u (local.get $len) (i32.const 66)))
      (then (return (i32.const 1))))
    (if (i32.ne (i32.load8_u (local.get $json)) (i32.const 0x22)) (then (return (i32.const 1))))
    (global.set $length (i32.sub (local.get $len) (i32.const 2)))
    (loop $copy
      (if (i32.lt_u (local.get $at) (global.get $length))
        (then
          (i32.store8 offset=256 (local.get $at)
            (i32.load8_u offset=1 (i32.add (local.get $json) (local.get $at))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $copy))))
    (i32.const 0))

  (func (export "pc_request") (param $view i32) (param $len i32) (result i32)
    (local $row i32)
    (local.set $row (call $x_probe (local.get $view)))
    (if (i32.eqz (local.get $row)) (then (return (i32.const 0))))
    (if (i32.ne (i32.load offset=32 (local.get $row)) (global.get $length)) (then (return (i32.const 0))))
    (call $equal
      (i32.add
        (call $section (local.get $view) (call $record (local.get $view) (i32.const 5)))
        (i32.load offset=28 (local.get $row)))
      (i32.const 256)
      (global.get $length)))

  ;; After a request there is nothing to tell.
  (func (export "pc_detail") (result i64)
    (if (result i64) (i32.eq (global.get $length) (i32.const -1))
      (then (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const 40)))
      (else (i64.const 0)))))
