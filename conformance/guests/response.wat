;; Block a response of 200 that names its server.
(module
  (@custom "portcullis.describe" "{\"name\":\"response\",\"version\":\"1.0.0\",\"abi\":{\"major\":2,\"minor\":0},\"phases\":[\"response\"],\"sections\":[\"responseLine\",\"responseHeaders\"]}")
  (memory (export "memory") 1)
  (data (i32.const 16) "200")
  (data (i32.const 32) "server")

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

  (func (export "pc_response") (param $view i32) (param $len i32) (result i32)
    (local $record i32) (local $section i32) (local $row i32) (local $left i32)
    (local.set $row (call $section (local.get $view) (call $record (local.get $view) (i32.const 10))))
    (if (i32.eqz (call $equal
        (i32.add (local.get $row) (i32.load offset=28 (local.get $row))) (i32.const 16) (i32.const 3)))
      (then (return (i32.const 0))))
    (local.set $record (call $record (local.get $view) (i32.const 11)))
    (local.set $section (call $section (local.get $view) (local.get $record)))
    (local.set $row (local.get $section))
    (local.set $left (i32.load offset=12 (local.get $record)))
    (block $none
      (loop $next
        (br_if $none (i32.eqz (local.get $left)))
        (if (i32.eq (i32.load offset=8 (local.get $row)) (i32.const 6))
          (then (if (call $equal
              (i32.add (local.get $section) (i32.load offset=4 (local.get $row))) (i32.const 32) (i32.const 6))
            (then (return (i32.const 1))))))
        (local.set $row (i32.add (local.get $row) (i32.const 52)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0)))
