-- Argo CD: health of a WasmRule. Put it into the ConfigMap argocd-cm under
-- resource.customizations.health.portcullis.dev_WasmRule; docs/gitops/README.md shows how.
--
-- Healthy only when every node said itself that it runs this generation, and the operator has confirmed that lately.
-- Degraded when nothing moves without a change, or a node failed. Unknown when nobody keeps the status any more.
-- Everything else is Progressing: also a rule that Argo CD has just applied and nobody has looked at.

-- The operator confirms a status every five minutes; with more than 4,500 rules it takes longer, and this must be more.
local stale_after = 15 * 60

local health = { status = "Progressing", message = "Waiting for the operator" }
if obj.status == nil or obj.status.conditions == nil then
  return health
end
-- The conditions are of an older generation.
if obj.metadata.generation ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  return health
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end
local function text(condition)
  if condition.message ~= nil and condition.message ~= "" then
    return condition.reason .. ": " .. condition.message
  end
  return condition.reason
end

-- Seconds since a timestamp as Kubernetes writes it, which is in UTC. Both sides are read in the same wrong time zone.
local function age(timestamp)
  local year, month, day, hour, min, sec = string.match(timestamp or "", "^(%d+)-(%d+)-(%d+)T(%d+):(%d+):(%d+)")
  if year == nil then
    return nil
  end
  local at = { year = tonumber(year), month = tonumber(month), day = tonumber(day), hour = tonumber(hour),
    min = tonumber(min), sec = tonumber(sec), isdst = false }
  local now = os.date("!*t")
  now.isdst = false
  return os.time(now) - os.time(at)
end

local ready = conditions["Ready"]
local seconds = age(obj.status.lastReportTime)
local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = text(stalled)
elseif ready == nil then
  return health
elseif ready.reason == "BusUnavailable" or ready.reason == "NodeSilent" then
  health.status = "Unknown"
  health.message = text(ready)
elseif ready.status == "True" and (seconds == nil or seconds > stale_after) then
  health.status = "Unknown"
  health.message = "The operator last confirmed this status at " .. (obj.status.lastReportTime or "no time that is known")
    .. ": nobody can tell any more whether the rule is enforced. Look at the operator's pods"
elseif ready.status == "True" then
  health.status = "Healthy"
  health.message = text(ready)
elseif ready.status == "False" and not (conditions["Reconciling"] ~= nil and conditions["Reconciling"].status == "True") then
  health.status = "Degraded"
  health.message = text(ready)
else
  health.message = text(ready)
end
return health
