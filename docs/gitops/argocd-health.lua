-- Argo CD: health of a WasmRule. Put it into the ConfigMap argocd-cm under
-- resource.customizations.health.portcullis.dev_WasmRule; docs/gitops/README.md shows how.
--
-- Healthy only when every node said itself that it runs this generation. Degraded when nothing moves without a change, or
-- a node failed. Everything else is Progressing: also a rule that Argo CD has just applied and nobody has looked at.

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

local ready = conditions["Ready"]
local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  health.status = "Degraded"
  health.message = text(stalled)
elseif ready == nil then
  return health
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
