// The app's settings, written last: their arrival restarts the app, and by then
// every role it needs is in place.

@description('Name of the app.')
param appName string

@description('All settings. They replace what the app had.')
@secure()
param settings object

resource app 'Microsoft.Web/sites@2024-04-01' existing = {
  name: appName
}

resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: settings
}
